package host_test

import (
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
)

// Hosts on an external etcd have nothing that claims their directory: the socket
// is the first one's until it stops, and a dead one's is replaced.
func TestTheAdministratorsSocketOnAnExternalEtcd(t *testing.T) {
	t.Parallel()
	top, err := os.MkdirTemp("", "conclave") //nolint:usetesting // t.TempDir's path can be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(top) })
	cfg := onEtcd()
	cfg.DataDir = filepath.Join(top, "made")
	if err := os.Mkdir(cfg.DataDir, 0o700); err != nil {
		t.Fatal(err)
	}
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(cfg.DataDir, "conclave.sock")})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	_ = stale.Close()
	start(t, cfg)
	second := start(t, cfg)
	stop(t, second)
	if got := get(t, overSocket(t, cfg.DataDir), "http://localhost/readyz"); got.status != http.StatusOK {
		t.Errorf("after the second one stopped: %d %s", got.status, got.body)
	}
	cfg.DataDir = filepath.Join(top, "absent")
	start(t, cfg)
	if got := get(t, overSocket(t, cfg.DataDir), "http://localhost/readyz"); got.status != http.StatusOK {
		t.Errorf("in a directory that was absent: %d %s", got.status, got.body)
	}
}
