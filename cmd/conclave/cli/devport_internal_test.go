package cli

import (
	"net"
	"testing"
)

// A node is found at its port again after a restart: no connection that goes out is
// given it meanwhile.
func TestAnyPortIsNoneOfOutgoingConnections(t *testing.T) {
	t.Parallel()
	for range 20 {
		l, err := listenAt("127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		at, ok := l.Addr().(*net.TCPAddr)
		if !ok || at.Port < lowestPort || at.Port > highestPort {
			t.Errorf("it listens on %v", l.Addr())
		}
		again, err := listenAt(l.Addr().String())
		if err == nil {
			t.Errorf("two listen on %v", l.Addr())
			_ = again.Close()
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
