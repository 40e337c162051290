"""Conversations of the web page, and the feedback on their answers, kept below the store's folder."""
