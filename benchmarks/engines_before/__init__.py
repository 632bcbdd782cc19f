"""The local engine as it was, to compare with; nothing else imports it."""
