//! Messages between threads as their users see them, and the fast path against the ordinary one.

mod accounting;
mod fast_path;
mod processors;
mod rendezvous;
mod slices;
mod timers;
mod world;
