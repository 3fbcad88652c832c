//! Steers one pod until it is killed; the other process of the tests about that.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a part of the tests that has to be a process")]

use std::{
    env,
    fs::File,
    io::Write as _,
    net::{IpAddr, SocketAddr, TcpListener},
    os::fd::AsFd as _,
    thread,
};

use ebpf_redirect::{
    Enrolment, Exclusions, Listeners, Redirect as _,
    kernel::{KernelRedirect, Options},
};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

fn main() {
    let mut args = env::args().skip(1);
    let mut next = || args.next().unwrap();
    let (instance, netns, pod) = (next(), next(), next());
    let addresses: Vec<IpAddr> = args.map(|text| text.parse().unwrap()).collect();
    let netns = File::open(netns).unwrap();
    let redirect = KernelRedirect::open(Options { instance, ..Options::default() }).unwrap();
    let plan = redirect.listen_plan();
    let places = [plan.outbound_v4, plan.outbound_v6, plan.inbound_v4, plan.inbound_v6];
    let [outbound_v4, outbound_v6, inbound_v4, inbound_v6] = listen(&netns, places);
    let _guard = redirect
        .enrol(&Enrolment {
            pod: &pod,
            netns: netns.as_fd(),
            addresses: &addresses,
            listeners: Listeners {
                outbound_v4: Some(outbound_v4.as_fd()),
                outbound_v6: Some(outbound_v6.as_fd()),
                inbound_v4: Some(inbound_v4.as_fd()),
                inbound_v6: Some(inbound_v6.as_fd()),
            },
            exclusions: &Exclusions::default(),
        })
        .unwrap();
    println!("steering");
    std::io::stdout().flush().unwrap();
    loop {
        thread::park();
    }
}

fn listen(netns: &File, places: [SocketAddr; 4]) -> [TcpListener; 4] {
    thread::scope(|scope| {
        let inside = scope.spawn(|| {
            move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            places.map(|place| TcpListener::bind(place).unwrap())
        });
        inside.join().unwrap()
    })
}
