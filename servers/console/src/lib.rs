//! UART, framebuffer, keyboard; virtual consoles
#![cfg_attr(not(test), no_std)]
