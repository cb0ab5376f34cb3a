package cli

import (
	"math/rand/v2"
	"net"
	"strconv"
)

// Ports that are to be any are of this range: no system gives them to connections that
// go out, one of which would take a node's port while it is being restarted.
const (
	lowestPort  = 10_000
	highestPort = 32_767
)

// listenAt listens at an address; at port 0 on any that is free, and stays free.
func listenAt(addr string) (net.Listener, error) {
	name, port, err := net.SplitHostPort(addr)
	for range 100 {
		if err != nil || port != "0" {
			break
		}
		free := strconv.Itoa(lowestPort + rand.IntN(highestPort-lowestPort+1)) //nolint:gosec // a port is no secret
		if l, err := net.Listen("tcp", net.JoinHostPort(name, free)); err == nil {
			return l, nil
		}
	}
	return net.Listen("tcp", addr)
}
