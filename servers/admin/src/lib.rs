//! The operator's shell, with `vmadm`.
//!
//! Owns the session at the console and what the operator says of VMs. It talks to two servers, root
//! (programs, memory, the machine) and console (the terminal, the log), and holds no device. It is a
//! program of its own so that nothing that parses what people type holds more than the right to ask.
//!
//! A typed line goes from [`editor`] through [`words`] and [`shell`] to [`commands`] or [`vmadm`],
//! whose output goes through [`stream`] and [`filter`] back to the terminal.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod commands;
pub mod completion;
pub mod editor;
pub mod failure;
pub mod filter;
pub mod machine;
pub mod options;
pub mod random;
pub mod shell;
pub mod stream;
pub mod table;
pub mod vmadm;
pub mod words;
