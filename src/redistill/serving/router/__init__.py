"""The router: one OpenAI-compatible address before the student and the teacher."""
