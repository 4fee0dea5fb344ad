"""Makes a guest's boot files: kernel, initramfs, and what lets a disk start them under BIOS and UEFI."""
