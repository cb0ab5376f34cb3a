package edge

import (
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
)

// Nobody is taken for a peer on the administrator's socket for want of an address.
func TestRemoteAddr(t *testing.T) {
	tcp, unix := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}, &net.UnixAddr{Name: "s", Net: "unix"}
	for _, c := range []struct {
		local           net.Addr
		remote, network string
	}{
		{tcp, "192.0.2.1:9", "tcp"}, {tcp, "[fe80::1%eth0]:9", "tcp"}, {tcp, "", "tcp"}, {tcp, "@", "tcp"}, {nil, "", "tcp"},
		{unix, "@", "unix"}, {unix, "192.0.2.1:9", "unix"},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.RemoteAddr = c.remote
		if got := remoteAddr(r, c.local); got.Network() != c.network {
			t.Errorf("%q at %v: %s, want %s", c.remote, c.local, got.Network(), c.network)
		}
	}
}
