//! In front of retina, which is a strict client: speaks with a camera as it is, and with retina as the RFC has it.
//! `connect` opens connections and ports, `camera` is the conversation with the camera up to PLAY, `pump` passes on what it sends and keeps it alive, `strict` is
//! the RTSP server for retina, on a loopback port for one connection. What cameras write is read by [`crate::rtsp`].
//!
//! Start at [`camera::Camera::describe`] and [`pump::start`].

pub mod address;
pub mod camera;
mod connect;
pub mod pump;
mod strict;
mod tls;
