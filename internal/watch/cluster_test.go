package watch_test

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"testing"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/goleak"

	"github.com/conclavehq/conclave/internal/watch"
)

// pairOf starts a cluster of two members; without the second the first has no
// leader. restart starts the second one again.
func pairOf(t *testing.T) (first, second *embed.Etcd, restart func() *embed.Etcd) {
	t.Helper()
	settle(t)
	peers := []url.URL{freeURL(t), freeURL(t)}
	cluster := fmt.Sprintf("m0=%s,m1=%s", &peers[0], &peers[1])
	dirs := []string{t.TempDir(), t.TempDir()}
	start := func(i int) *embed.Etcd {
		e, err := member(dirs[i], func(cfg *embed.Config) {
			cfg.Name, cfg.InitialCluster = fmt.Sprint("m", i), cluster
			cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = peers[i:i+1], peers[i:i+1]
		})
		if err != nil {
			t.Error(err)
			return nil
		}
		return e
	}
	other := make(chan *embed.Etcd, 1)
	go func() { other <- start(1) }()
	first, second = start(0), <-other
	if first == nil || second == nil {
		t.FailNow()
	}
	t.Cleanup(func() { stop(first) })
	return first, second, func() *embed.Etcd {
		e := start(1)
		if e == nil {
			t.FailNow()
		}
		t.Cleanup(func() { stop(e) })
		return e
	}
}

func freeURL(t *testing.T) url.URL {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return url.URL{Scheme: "http", Host: l.Addr().String()}
}

func TestNoLeader(t *testing.T) {
	first, second, restart := pairOf(t)
	c, p := client(t, address(first)), prefix(t)
	l, opts := listen(watch.Options{Prefix: true})
	openKey(t, c, p, opts)
	o := observe(t, c, p, watch.ObserveOptions{})
	o.batch(t)
	put(t, c, p+"a", "1")
	wantShape(t, o.batch(t), "a=1")

	second.Close()
	e, ok := errors.AsType[*watch.LostError](receive(t, l.lost))
	if !ok || e.Reason != watch.NoLeader {
		t.Errorf("lost with %v", e)
	}
	_, err := watch.Key(ctxOf(t), c, p, opts)
	if e, ok := errors.AsType[*watch.LostError](err); !ok || e.Reason != watch.NoLeader {
		t.Errorf("Key without a leader gave %v", err)
	}
	restart()
	put(t, c, p+"a", "2")
	wantShape(t, o.batch(t), "a=2 was 1")
}

// settle keeps the test from ending before its members' goroutines have: etcd's
// peer connections put off the end of a read by up to 5 s (transport.timeoutConn
// sets the deadline that net/http wanted to be over).
func settle(t *testing.T) {
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() {
		deadline := time.Now().Add(patience)
		for goleak.Find(before) != nil { // which itself waits a little
			if time.Now().After(deadline) {
				return
			}
		}
	})
}
