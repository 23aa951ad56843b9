"""arqestra: an asyncio job queue on Redis or Valkey."""
