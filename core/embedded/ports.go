package embedded

import (
	"errors"
	"fmt"
	"net"
	"syscall"
)

// bindAttempts bounds how often a start whose ports were chosen by the kernel tries other ones: between choosing a port and
// etcd's listening on it, another process may take it.
const bindAttempts = 8

// resolvePorts replaces port 0. etcd itself could listen on port 0, but would tell clients and members that its port is 0.
func (c Config) resolvePorts() (Config, error) {
	addrs, err := choosePorts(c.ClientAddr, c.PeerAddr)
	if err != nil {
		return c, err
	}
	c.ClientAddr, c.PeerAddr = addrs[0], addrs[1]
	return c, nil
}

// choosePorts holds every chosen port until all are chosen, so that no two are the same.
func choosePorts(addrs ...string) ([]string, error) {
	out := make([]string, len(addrs))
	for i, a := range addrs {
		out[i] = a
		if !portIsFree(a) {
			continue
		}
		l, err := net.Listen("tcp", a)
		if err != nil {
			return nil, fmt.Errorf("choose a port on %s: %w", a, err)
		}
		defer l.Close() //nolint:gocritic // all ports are chosen before the first is given back
		out[i] = l.Addr().String()
	}
	return out, nil
}

func bindError(err error) error {
	if !errors.Is(err, syscall.EADDRINUSE) {
		return err
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Addr != nil {
		return fmt.Errorf("%w: %s: another process listens there: %w", ErrPortInUse, op.Addr, err)
	}
	return fmt.Errorf("%w: %w", ErrPortInUse, err)
}

// dialAddr is where this process reaches a listener: one that listens on every address is dialled on loopback.
func dialAddr(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return listen
	}
	if ip := net.ParseIP(host); host == "" || (ip != nil && ip.IsUnspecified()) {
		host = "127.0.0.1"
		if ip != nil && ip.To4() == nil {
			host = "::1"
		}
	}
	return net.JoinHostPort(host, port)
}
