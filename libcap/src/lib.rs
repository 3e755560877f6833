//! What every server stands on: typed capabilities, executor, rings
#![cfg_attr(not(test), no_std)]
