"""The report room: one document model, and renderers that know nothing but that model."""
