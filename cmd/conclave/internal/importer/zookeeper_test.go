package importer_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/conclavehq/conclave/cmd/conclave/internal/importer"
)

// zkJars is where Debian's package zookeeper has its server.
const zkJars = "/usr/share/java"

// zooKeeper starts a real server for this test.
func zooKeeper(t *testing.T) string {
	t.Helper()
	java, err := exec.LookPath("java")
	if err != nil {
		t.Skip("no java here, which a ZooKeeper server needs")
	}
	if _, err := os.Stat(filepath.Join(zkJars, "zookeeper.jar")); err != nil {
		t.Skip("no ZooKeeper server here: it is in Debian's package zookeeper")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err = errors.Join(err, l.Close()); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(java, "-Dzookeeper.admin.enableServer=false", "-Dzookeeper.clientPortAddress=127.0.0.1",
		"-cp", filepath.Join(zkJars, "zookeeper.jar")+":"+filepath.Join(zkJars, "*"), "org.apache.zookeeper.server.ZooKeeperServerMain", port, t.TempDir())
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGKILL)
		_ = cmd.Wait()
	})
	server := "127.0.0.1:" + port
	awaitZooKeeper(t, server)
	return server
}

// awaitZooKeeper waits until the server answers.
func awaitZooKeeper(t *testing.T, server string) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); <-tick.C {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		_, err := importer.FromZooKeeper(ctx, importer.ZooKeeper{Servers: []string{server}})
		cancel()
		if err == nil {
			return
		}
	}
	t.Fatal("the ZooKeeper server does not answer")
}

type quiet struct{}

func (quiet) Printf(string, ...any) {}

// fill makes nodes of every kind. The connection must stay, for the ephemeral one to.
func fill(t *testing.T, server string) {
	t.Helper()
	c, _, err := zk.Connect([]string{server}, 30*time.Second, zk.WithLogger(quiet{}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	world := zk.WorldACL(zk.PermAll)
	for _, n := range []struct {
		path, data string
		flags      int32
		acl        []zk.ACL
	}{
		{"/app", "", 0, world},
		{"/app/name", "shop", 0, world},
		{"/app/raw", "\x00\xff", 0, world},
		{"/app/both", "has data and children", 0, world},
		{"/app/both/child", "c", 0, world},
		{"/app/empty", "", 0, world},
		{"/app/alive", "x", zk.FlagEphemeral, world},
		{"/app/guarded", "g", 0, zk.DigestACL(zk.PermAll, "me", "pw")},
		{"/apple", "other", 0, world},
	} {
		if _, err := c.Create(n.path, []byte(n.data), n.flags, n.acl); err != nil {
			t.Fatalf("%s: %v", n.path, err)
		}
	}
}

func TestZooKeeper(t *testing.T) {
	server := zooKeeper(t)
	fill(t, server)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	read := func(z importer.ZooKeeper) ([]string, []string) {
		t.Helper()
		z.Servers = []string{server}
		f, err := importer.FromZooKeeper(ctx, z)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, i := range f.Items {
			got = append(got, fmt.Sprintf("%s=%q", i.From, i.Value))
		}
		return got, f.Notes
	}
	below := []string{`/app/both="has data and children"`, `/app/both/child="c"`, `/app/empty=""`, `/app/guarded="g"`, `/app/name="shop"`, `/app/raw="\x00\xff"`}
	got, notes := read(importer.ZooKeeper{Auth: "me:pw"})
	if want := append(slices.Clone(below), `/apple="other"`); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if len(notes) != 3 || !strings.Contains(strings.Join(notes, ";"), "1 keys are ephemeral") || !strings.Contains(strings.Join(notes, ";"), "1 keys have access lists") {
		t.Errorf("notes %v", notes)
	}
	if got, _ := read(importer.ZooKeeper{Auth: "me:pw", Root: "/app"}); !slices.Equal(got, below) {
		t.Errorf("below /app: %v, want %v", got, below)
	}
	if got, _ := read(importer.ZooKeeper{Auth: "me:pw", Root: "app", Directories: true}); len(got) != len(below)+1 || got[0] != `/app=""` {
		t.Errorf("with directories: %v", got)
	}
	if _, err := importer.FromZooKeeper(ctx, importer.ZooKeeper{Servers: []string{server}}); !errors.Is(err, zk.ErrNoAuth) || !strings.Contains(err.Error(), "/app/guarded") {
		t.Errorf("without a login: %v", err)
	}
	if _, err := importer.FromZooKeeper(ctx, importer.ZooKeeper{Servers: []string{server}, Root: "/none"}); !errors.Is(err, zk.ErrNoNode) {
		t.Errorf("a root that is not there: %v", err)
	}
}

// A server that is not there is told at once.
func TestZooKeeperThatIsAway(t *testing.T) {
	_, err := importer.FromZooKeeper(t.Context(), importer.ZooKeeper{Servers: []string{"127.0.0.1:1"}})
	if !errors.Is(err, zk.ErrNoServer) || !strings.Contains(err.Error(), "127.0.0.1:1") {
		t.Errorf("%v", err)
	}
}

// One that listens, and says nothing, is waited for as long as the caller says.
func TestZooKeeperThatIsSilent(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := importer.FromZooKeeper(ctx, importer.ZooKeeper{Servers: []string{l.Addr().String()}}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}
