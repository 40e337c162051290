"""Meta's folders: params.json beside consolidated.*.pth; reading."""
