//! Whole sessions of the shell on a machine made of fakes.

mod shell;
mod support;
mod vmadm;
