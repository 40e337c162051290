"""Licences as data: what each permits, asks for and limits."""
