"""What a request costs, what the switch changes about it, and what leaving costs once.

`prices` reads a dated price book, `unit_cost` prices one trace record by seven parts, `comparison` sets two sets of
requests side by side and `exit_cost` adds up what is paid once. Money is `Decimal` with nine places throughout. A
price that the book does not hold makes a result unknown; it is never taken for zero.
"""
