//! In front of retina, which is a strict client: speaks with a camera as it is, and with retina as the RFC has it.
//! `camera` is the connection to the camera up to PLAY, `pump` passes on what it sends and keeps it alive, `strict` is
//! the RTSP server for retina, on a loopback port for one connection. What cameras write is read by [`crate::rtsp`].
//!
//! Start at [`camera::Camera::describe`] and [`pump::start`].

pub mod address;
pub mod camera;
pub mod pump;
mod strict;
mod tls;
