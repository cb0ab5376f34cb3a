package snapshot_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/core/embedded"
	"github.com/conclavehq/conclave/core/snapshot"
)

// saved returns a snapshot of an etcd with some keys, one of them on a lease, and one deleted.
func saved(t *testing.T) (file string, e *coretest.Etcd) {
	t.Helper()
	e = coretest.StartEtcd(t)
	c := e.Client(t)
	for i := range 25 {
		must(c.Put(t.Context(), fmt.Sprintf("plain/%02d", i), strings.Repeat("v", i)))(t)
	}
	must(c.Delete(t.Context(), "plain/07"))(t)
	l := must(c.Grant(t.Context(), 60))(t)
	must(c.Put(t.Context(), "leased", "x", clientv3.WithLease(l.ID)))(t)
	file = filepath.Join(t.TempDir(), "saved.db")
	must(snapshot.SaveFile(t.Context(), c, file, snapshot.SaveOptions{}))(t)
	return file, e
}

func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestSavedFileIsWholeAndDescribed(t *testing.T) {
	e := coretest.StartEtcd(t)
	c := e.Client(t)
	for _, key := range []string{"a", "b", "c"} {
		must(c.Put(t.Context(), key, key))(t)
	}
	must(c.Delete(t.Context(), "b"))(t)
	l := must(c.Grant(t.Context(), 60))(t)
	must(c.Put(t.Context(), "c", "", clientv3.WithLease(l.ID)))(t)
	file := filepath.Join(t.TempDir(), "saved.db")
	var steps []int64
	saved := must(snapshot.SaveFile(t.Context(), c, file, snapshot.SaveOptions{Progress: func(n int64) { steps = append(steps, n) }}))(t)
	got := must(snapshot.Inspect(file))(t)
	info := must(os.Stat(file))(t)
	want := snapshot.Status{Revision: e.Revision(t), Keys: 2, Leased: 1, Leases: 1, Bytes: info.Size()}
	got.Version = "" // the member records it a moment after its start
	if got != want {
		t.Errorf("status %+v, want %+v", got, want)
	}
	if saved.Revision != want.Revision || saved.Bytes != want.Bytes {
		t.Errorf("saved %+v, want %+v", saved, want)
	}
	if len(steps) == 0 || steps[len(steps)-1] != info.Size() {
		t.Errorf("progress %v, want it to end at %d", steps, info.Size())
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v: a snapshot holds every secret", info.Mode())
	}
}

func TestSaveReplacesOnlyWhenAsked(t *testing.T) {
	file, e := saved(t)
	before := must(os.ReadFile(file))(t)
	if _, err := snapshot.SaveFile(t.Context(), e.Client(t), file, snapshot.SaveOptions{}); !errors.Is(err, snapshot.ErrExists) {
		t.Fatalf("error %v, want ErrExists", err)
	}
	if !bytes.Equal(before, must(os.ReadFile(file))(t)) {
		t.Fatal("the file was changed")
	}
	must(e.Client(t).Put(t.Context(), "more", "x"))(t)
	must(snapshot.SaveFile(t.Context(), e.Client(t), file, snapshot.SaveOptions{Overwrite: true}))(t)
	if bytes.Equal(before, must(os.ReadFile(file))(t)) {
		t.Fatal("the file was not replaced")
	}
}

func TestASaveThatFailsLeavesNothing(t *testing.T) {
	e := coretest.StartEtcd(t)
	for i := range 8 {
		must(e.Client(t).Put(t.Context(), strconv.Itoa(i), strings.Repeat("v", 512<<10)))(t)
	}
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	// It is ended when the first bytes have been written.
	_, err := snapshot.SaveFile(ctx, e.Client(t), filepath.Join(dir, "x.db"), snapshot.SaveOptions{Progress: func(int64) { cancel() }})
	if err == nil {
		t.Fatal("saved although it was ended")
	}
	if files := must(os.ReadDir(dir))(t); len(files) != 0 {
		t.Errorf("left behind: %v", files)
	}
}

// What does not pass the caller's look does not appear either.
func TestAFileThatFailsItsCheckDoesNotAppear(t *testing.T) {
	e := coretest.StartEtcd(t)
	dir := t.TempDir()
	refused := errors.New("refused")
	_, err := snapshot.SaveFile(t.Context(), e.Client(t), filepath.Join(dir, "x.db"), snapshot.SaveOptions{Check: func(file string) error {
		must(snapshot.Inspect(file))(t)
		return refused
	}})
	if files := must(os.ReadDir(dir))(t); !errors.Is(err, refused) || len(files) != 0 {
		t.Errorf("%v, left behind: %v", err, files)
	}
}

func TestDamagedFilesAreRefused(t *testing.T) {
	file, _ := saved(t)
	whole := must(os.ReadFile(file))(t)
	for name, b := range map[string][]byte{
		"cut short":          whole[:len(whole)/2],
		"without its digest": whole[:len(whole)-32],
		"a bit flipped":      flipped(whole, len(whole)/3),
		"digest flipped":     flipped(whole, len(whole)-1),
		"empty":              {},
		"no snapshot":        bytes.Repeat([]byte("x"), 544),
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			broken := filepath.Join(dir, "broken.db")
			if err := os.WriteFile(broken, b, 0o600); err != nil {
				t.Fatal(err)
			}
			data := filepath.Join(dir, "data")
			_, err := snapshot.Restore(snapshot.RestoreConfig{File: broken, DataDir: data})
			if !errors.Is(err, snapshot.ErrDamaged) || !strings.Contains(err.Error(), broken) {
				t.Errorf("error %v, want ErrDamaged and the file's name", err)
			}
			if _, err := os.Stat(data); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("a data directory is there: %v", err)
			}
		})
	}
}

func flipped(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[at] ^= 1
	return b
}

func TestRestoreRefuses(t *testing.T) {
	file, _ := saved(t)
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "precious"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		cfg  snapshot.RestoreConfig
		want error
		says string
	}{
		"no directory":           {snapshot.RestoreConfig{File: file}, snapshot.ErrInvalid, "DataDir"},
		"a directory in use":     {snapshot.RestoreConfig{File: file, DataDir: full}, snapshot.ErrExists, full},
		"a small bump":           {snapshot.RestoreConfig{File: file, DataDir: t.TempDir(), Bump: 1}, snapshot.ErrInvalid, "Bump"},
		"a bump beyond tokens":   {snapshot.RestoreConfig{File: file, DataDir: t.TempDir(), Bump: 1 << 47}, snapshot.ErrInvalid, "Bump"},
		"a cluster without self": {snapshot.RestoreConfig{File: file, DataDir: t.TempDir(), Cluster: map[string]string{"b": "http://127.0.0.1:1"}}, snapshot.ErrInvalid, "Cluster"},
		"no file":                {snapshot.RestoreConfig{File: file + "x", DataDir: t.TempDir()}, os.ErrNotExist, "x"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := snapshot.Restore(c.cfg)
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %v, want %v and %q", err, c.want, c.says)
			}
		})
	}
}

func TestRestoreKeepsWhatHasNoLease(t *testing.T) {
	file, _ := saved(t)
	dir := filepath.Join(t.TempDir(), "data")
	r := must(snapshot.Restore(snapshot.RestoreConfig{File: file, DataDir: dir}))(t)
	if r.Keys != 24 || r.Ended != 1 || r.Removed != 1 || r.Revision <= r.Snapshot.Revision+snapshot.DefaultBump {
		t.Errorf("report %+v", r)
	}
	m := start(t, dir)
	got := must(m.Client().Get(t.Context(), "", clientv3.WithPrefix()))(t)
	if len(got.Kvs) != 24 || got.Header.Revision != r.Revision {
		t.Errorf("%d keys at revision %d, want 24 at %d", len(got.Kvs), got.Header.Revision, r.Revision)
	}
	if leases := must(m.Client().Leases(t.Context()))(t); len(leases.Leases) != 0 {
		t.Errorf("leases %v", leases.Leases)
	}
}

// A store may have come far and hold nothing that tells: what it wrote was deleted and compacted. It still goes on above all of it.
func TestRestoreOfAStoreThatForgot(t *testing.T) {
	e := coretest.StartEtcd(t)
	c := e.Client(t)
	must(c.Put(t.Context(), "k", ""))(t)
	last := int64(0)
	for round := range 3 {
		must(c.Delete(t.Context(), "k"))(t)
		deleted := must(c.Put(t.Context(), "k", ""))(t).Header.Revision
		must(c.Delete(t.Context(), "k"))(t)
		must(c.Compact(t.Context(), deleted+1, clientv3.WithCompactPhysical()))(t)
		dir := t.TempDir()
		file := filepath.Join(dir, "saved.db")
		status := must(snapshot.SaveFile(t.Context(), c, file, snapshot.SaveOptions{}))(t)
		if status.Revision <= last {
			t.Errorf("round %d: the snapshot claims revision %d, after %d", round, status.Revision, last)
		}
		must(snapshot.Drill(t.Context(), file, dir, nil))(t)
		must(snapshot.Restore(snapshot.RestoreConfig{File: file, DataDir: filepath.Join(dir, "data")}))(t)
		c = start(t, filepath.Join(dir, "data")).Client()
		put := must(c.Put(t.Context(), "k", ""))(t)
		if put.Header.Revision <= deleted+1+snapshot.DefaultBump/2 {
			t.Fatalf("round %d: revision %d follows %d", round, put.Header.Revision, deleted+1)
		}
		last = put.Header.Revision
	}
}

// Three members that are restored one by one from the same file are one cluster, and equal.
func TestRestoreOfThreeMembers(t *testing.T) {
	file, e := saved(t)
	for range 20 {
		l := must(e.Client(t).Grant(t.Context(), 60))(t)
		for i := range 3 {
			must(e.Client(t).Put(t.Context(), fmt.Sprintf("of-%x/%d", l.ID, i), "x", clientv3.WithLease(l.ID)))(t)
		}
	}
	must(snapshot.SaveFile(t.Context(), e.Client(t), file, snapshot.SaveOptions{Overwrite: true}))(t)
	cluster := make(map[string]string)
	for _, name := range []string{"a", "b", "c"} {
		cluster[name] = "http://" + freeAddr(t)
	}
	members := make(chan *embedded.Member, len(cluster))
	var starting sync.WaitGroup
	for name, url := range cluster {
		dir := filepath.Join(t.TempDir(), name)
		r := must(snapshot.Restore(snapshot.RestoreConfig{File: file, DataDir: dir, Name: name, Cluster: cluster}))(t)
		if r.Ended != 21 || r.Removed != 61 {
			t.Fatalf("report %+v", r)
		}
		starting.Go(func() {
			m, err := embedded.Start(t.Context(), embedded.Config{Name: name, DataDir: dir, ClientAddr: "127.0.0.1:0", PeerAddr: strings.TrimPrefix(url, "http://"),
				InitialCluster: cluster, Fast: true, NoFsync: true})
			if err != nil {
				t.Error(err)
				return
			}
			members <- m
		})
	}
	starting.Wait()
	close(members)
	hashes := make(map[uint32]bool)
	for m := range members {
		t.Cleanup(func() { _ = m.Close() })
		if got := must(m.Client().Get(t.Context(), "", clientv3.WithPrefix()))(t); len(got.Kvs) != 24 {
			t.Errorf("%d keys", len(got.Kvs))
		}
		hashes[must(m.Client().HashKV(t.Context(), m.Endpoints()[0], 0))(t).Hash] = true
	}
	if len(hashes) != 1 {
		t.Errorf("the members differ: %v", hashes)
	}
}

func freeAddr(t *testing.T) string {
	t.Helper()
	l := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	defer l.Close()
	return l.Addr().String()
}

func start(t *testing.T, dir string) *embedded.Member {
	t.Helper()
	m := must(embedded.Start(t.Context(), embedded.Config{DataDir: dir, ClientAddr: "127.0.0.1:0", PeerAddr: "127.0.0.1:0", Fast: true, NoFsync: true}))(t)
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

func TestDrill(t *testing.T) {
	file, _ := saved(t)
	dir := t.TempDir()
	r := must(snapshot.Drill(t.Context(), file, dir, nil))(t)
	if r.Keys != 24 || r.Ended != 1 {
		t.Errorf("report %+v", r)
	}
	if files := must(os.ReadDir(dir))(t); len(files) != 0 {
		t.Errorf("left behind: %v", files)
	}
}

// The drill knows no password, and needs none.
func TestDrillOfAStoreWithLogins(t *testing.T) {
	e := coretest.StartEtcd(t)
	c := e.Client(t)
	must(c.Put(t.Context(), "k", "v"))(t)
	must(c.UserAdd(t.Context(), "root", "secret"))(t)
	must(c.UserGrantRole(t.Context(), "root", "root"))(t)
	file := filepath.Join(t.TempDir(), "saved.db")
	if _, err := c.AuthEnable(t.Context()); err != nil {
		t.Fatal(err)
	}
	root := must(clientv3.New(clientv3.Config{Endpoints: []string{e.Endpoint()}, Username: "root", Password: "secret", Logger: zap.NewNop()}))(t)
	defer root.Close()
	if _, err := snapshot.SaveFile(t.Context(), c, file, snapshot.SaveOptions{}); err == nil {
		t.Fatal("saved without a login")
	}
	must(snapshot.SaveFile(t.Context(), root, file, snapshot.SaveOptions{}))(t)
	if r := must(snapshot.Drill(t.Context(), file, t.TempDir(), nil))(t); r.Keys != 1 {
		t.Errorf("report %+v", r)
	}
}
