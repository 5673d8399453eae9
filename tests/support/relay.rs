//! A long wire: two Ethernet devices, and every frame that leaves one comes out of the other a while later.
//!
//! The kernel's own way to delay packets (netem) is a module that not every machine has; /dev/net/tun is everywhere.

#![allow(unsafe_code, reason = "the one ioctl that makes a device; see attach")]

use std::collections::VecDeque;
use std::ffi::c_int;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::ioctl::{Setter, ioctl, opcode};

use super::namespaces::{ip, must};

/// `TUNSETIFF` of linux/if_tun.h.
const SET_DEVICE: rustix::ioctl::Opcode = opcode::write::<c_int>(b'T', 202);

/// `IFF_TAP | IFF_NO_PI` of linux/if_tun.h: whole Ethernet frames and nothing before them.
const ETHERNET: i16 = 0x0002 | 0x1000;

/// The longest frame of a device with the usual MTU, and some room.
const FRAME: usize = 2048;

/// Frames on the wire in each direction; more are lost, as anywhere.
const ROOM: usize = 8192;

/// `struct ifreq` of linux/if.h as `TUNSETIFF` reads it.
#[repr(C)]
struct DeviceRequest {
    name: [u8; 16],
    flags: i16,
    rest: [u8; 22],
}

/// The wire; dropping it takes both ends away.
pub struct Relay {
    /// How `ip` finds either end.
    ends: [String; 2],
    threads: Vec<JoinHandle<()>>,
}

/// An end of a wire: the namespace that it lies in, and its name there.
pub type End<'a> = (&'a str, &'a str);

impl Relay {
    /// A wire between these, on which a frame takes `trip`. Both devices are down.
    pub fn new(ends: [End<'_>; 2], trip: Duration) -> Self {
        let devices = ends.map(|(namespace, name)| {
            // Made here under a name that nobody else has, then moved.
            let device = Arc::new(attach(&format!("t{}{name}", std::process::id())));
            must(&format!("link set t{}{name} netns {namespace} name {name}", std::process::id()));
            device
        });
        let [near, far] = devices;
        let mut threads = carry(&near, &far, trip);
        threads.extend(carry(&far, &near, trip));
        let ends = ends.map(|(namespace, name)| format!("-n {namespace} link del {name}"));
        Self { ends, threads }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // Reading from a device that is gone fails, and so the threads end.
        self.ends.iter().for_each(|end| _ = ip(end));
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// A new Ethernet device of this name, gone with the file.
fn attach(name: &str) -> File {
    let file = File::options().read(true).write(true).open("/dev/net/tun").unwrap();
    let mut request = DeviceRequest { name: [0; 16], flags: ETHERNET, rest: [0; 22] };
    request.name[..name.len()].copy_from_slice(name.as_bytes());
    // SAFETY: TUNSETIFF reads a `struct ifreq`, which has the size and the layout of `DeviceRequest`, and writes at most
    // its name.
    unsafe { ioctl(&file, Setter::<SET_DEVICE, DeviceRequest>::new(request)) }.unwrap();
    file
}

/// What is on the wire in one direction, and when it arrives; `None` behind the last.
#[derive(Default)]
struct Line {
    frames: Mutex<VecDeque<Option<(Instant, Vec<u8>)>>>,
    more: Condvar,
}

impl Line {
    fn put(&self, frame: Option<(Instant, Vec<u8>)>) {
        let mut frames = self.frames.lock().unwrap();
        if frame.is_none() || frames.len() < ROOM {
            frames.push_back(frame);
            self.more.notify_one();
        }
    }

    fn take(&self) -> Option<(Instant, Vec<u8>)> {
        let frames = self.frames.lock().unwrap();
        self.more.wait_while(frames, |frames| frames.is_empty()).unwrap().pop_front().unwrap()
    }
}

/// Carries frames from one device to the other: one thread takes them in, another lets them out.
fn carry(from: &Arc<File>, to: &Arc<File>, trip: Duration) -> Vec<JoinHandle<()>> {
    let line = Arc::new(Line::default());
    let (from, to, entrance) = (Arc::clone(from), Arc::clone(to), Arc::clone(&line));
    let reader = std::thread::spawn(move || {
        let mut frame = [0; FRAME];
        while let Ok(length) = from.as_ref().read(&mut frame) {
            entrance.put(Some((Instant::now() + trip, frame[..length].to_vec())));
        }
        entrance.put(None);
    });
    let writer = std::thread::spawn(move || {
        while let Some((due, frame)) = line.take() {
            // It is this that a long wire does.
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            // A device that is down takes nothing: the frame is lost.
            let _ = to.as_ref().write(&frame);
        }
    });
    vec![reader, writer]
}
