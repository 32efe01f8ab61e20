"""What adapters are tested with: reference store, hard records, conformance suite."""
