"""Model families: what differs between vision-language models, behind one interface."""
