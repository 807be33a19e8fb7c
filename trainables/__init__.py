"""What one trial does, and what becomes of its checkpoint."""
