//! System tests that boot the image

