//! The console server: terminals, virtual consoles and the log.
//!
//! Owns the UART, the screen and the keyboard, and says whose bytes they show. Above it are the
//! operator's shell (`admin`, a client of protocol `console`), the monitors (one byte ring each) and every
//! program that logs (one ring each); below it are the devices. It is a server of its own so that a VM,
//! the shell and the log share a terminal without sharing a byte, and so that a shell that died can
//! be restarted without losing what was on the screen.
//!
//! Devices: [`uart`], [`keyboard`] with [`scancode`], [`screen`] with [`grid`] and [`ansi`].
//! State: [`switchboard`] with [`seat`], [`scrollback`], [`log_buffer`] and [`log_lines`].
//! [`wiring`] moves bytes between both, and the rings; [`service`] answers the
//! protocol, [`native`] is what the program was given.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod ansi;
pub mod grid;
pub mod keyboard;
pub mod log_buffer;
pub mod log_lines;
pub mod native;
pub mod ports;
pub mod scancode;
pub mod screen;
pub mod scrollback;
pub mod seat;
pub mod service;
pub mod switchboard;
pub mod uart;
pub mod wiring;
