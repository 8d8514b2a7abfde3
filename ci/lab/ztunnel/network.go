package main

import (
	"context"
	"fmt"
	"net"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// mark is on ztunnel's own packets: the rules of the CNI agent in a pod do not redirect those.
const mark = 0x539

// in calls a function in the network of a file descriptor. Sockets that are made there stay there.
func in(netns int, do func() error) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with this function
		if err := unix.Setns(netns, unix.CLONE_NEWNET); err != nil {
			result <- err
			return
		}
		result <- do()
	}()
	return <-result
}

func marked(_, _ string, raw syscall.RawConn) error {
	var failed error
	err := raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, mark)
	})
	if err != nil {
		return err
	}
	return failed
}

func dialInside(netns int, address string) (conn *net.TCPConn, err error) {
	err = in(netns, func() error {
		dialer := net.Dialer{Timeout: 5 * time.Second, Control: marked}
		made, err := dialer.Dial("tcp", address)
		if err == nil {
			conn = made.(*net.TCPConn)
		}
		return err
	})
	return conn, err
}

func listenInside(netns, port int) (listener net.Listener, err error) {
	err = in(netns, func() (err error) {
		config := net.ListenConfig{Control: func(network, address string, raw syscall.RawConn) error {
			if err := marked(network, address, raw); err != nil {
				return err
			}
			return raw.Control(func(fd uintptr) {
				_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
			})
		}}
		listener, err = config.Listen(context.Background(), "tcp", fmt.Sprintf(":%d", port))
		return err
	})
	return listener, err
}

// original returns the address that a redirected connection was made to (IPv4 only).
func original(connection *net.TCPConn) (*net.TCPAddr, error) {
	raw, err := connection.SyscallConn()
	if err != nil {
		return nil, err
	}
	var to *net.TCPAddr
	var failed error
	err = raw.Control(func(fd uintptr) {
		// SO_ORIGINAL_DST: a sockaddr_in, which fits into an IPv6Mreq
		got, err := unix.GetsockoptIPv6Mreq(int(fd), unix.IPPROTO_IP, 80)
		if err != nil {
			failed = err
			return
		}
		b := got.Multiaddr
		to = &net.TCPAddr{IP: net.IPv4(b[4], b[5], b[6], b[7]), Port: int(b[2])<<8 | int(b[3])}
	})
	if err != nil {
		return nil, err
	}
	return to, failed
}

func reset(connection *net.TCPConn) {
	_ = connection.SetLinger(0)
	_ = connection.Close()
}
