"""Bags, videos, folders of pictures and labels: read, written, and as cameras."""
