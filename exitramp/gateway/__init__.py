"""An application's other way in: an endpoint in the chat completions shape, on loopback, in front of a stack file."""
