"""Images as files: decoding by stated rules, centre crops, folders and layouts, leaks, scenes, and sets to download."""

from difcore.images.crops import Skipped, centre_crop, decode, read_crop, sha256_pixels
from difcore.images.decoding import ImageError
from difcore.images.folders import FolderError, GeneratorFolders, find_generators, list_images
from difcore.images.sources import FetchError, fetch_release, locate

__all__ = [
    "FetchError", "FolderError", "GeneratorFolders", "ImageError", "Skipped", "centre_crop", "decode", "fetch_release",
    "find_generators", "list_images", "locate", "read_crop", "sha256_pixels",
]  # fmt: skip
