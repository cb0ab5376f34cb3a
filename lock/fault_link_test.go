package lock_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/lock"
)

// Connections that break, or go silent, while somebody waits, owns or releases.

// linked opens a session whose connection a test can break.
func linked(tb testing.TB, ttl time.Duration) (*core.Session, *coretest.Link) {
	tb.Helper()
	link := etcd.Link(tb)
	s, err := core.NewSession(within(tb), coretest.Dial(tb, link.Endpoint()), core.WithTTL(ttl))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		link.Heal()
		_ = s.Close()
	})
	return s, link
}

// breaks are the ways in which a link fails.
var breaks = map[string]func(*coretest.Link){
	"cut":             (*coretest.Link).Cut,
	"silent":          func(l *coretest.Link) { l.Blackhole(coretest.Both) },
	"replies silent":  func(l *coretest.Link) { l.Blackhole(coretest.ToClient) },
	"requests silent": func(l *coretest.Link) { l.Blackhole(coretest.ToServer) },
}

// forBreaks runs f, all at once, for some kinds of lock and all breaks: most of
// the time goes into waiting for leases.
func forBreaks(t *testing.T, f func(t *testing.T, k kind, name string, broken func(*coretest.Link))) {
	for _, k := range []kind{kindOf("mutex"), kindOf("read"), kindOf("permits"), kindOf("multi")} {
		for how, broken := range breaks {
			t.Run(k.name+" "+how, func(t *testing.T) {
				t.Parallel()
				f(t, k, etcd.Prefix(t), broken)
			})
		}
	}
}

// longTTL is a TTL that no test reaches.
const longTTL = 2 * time.Minute

// The name is handed over while the waiter hears nothing. It owns when it is
// back.
func TestHandoverWhileTheWaiterIsCutOff(t *testing.T) {
	forBreaks(t, func(t *testing.T, k kind, name string, broken func(*coretest.Link)) {
		owner := acquired(t, kindOf(k.rival).lock(session(t), name))
		s, link := linked(t, longTTL)
		waiter := background(t, within(t), k.lock(s, name))
		tickets(t, name, ticketsOf(k))
		broken(link)
		released(t, owner)
		link.Heal()
		o := served(t, waiter)
		stillOwns(t, o)
		released(t, o)
		cleanedUp(t, name)
	})
}

// The owner dies while the first in line hears nothing. It claims when it is
// back.
func TestOwnerDiesWhileTheWaiterIsCutOff(t *testing.T) {
	forBreaks(t, func(t *testing.T, k kind, name string, broken func(*coretest.Link)) {
		dead := session(t)
		acquired(t, kindOf(k.rival).lock(dead, name))
		s, link := linked(t, longTTL)
		waiter := background(t, within(t), k.lock(s, name))
		tickets(t, name, ticketsOf(k))
		broken(link)
		expire(t, dead)
		link.Heal()
		o := served(t, waiter)
		released(t, o)
		cleanedUp(t, name)
	})
}

// The link breaks before a release and is whole again in time: the release is
// repeated and the next one served.
func TestReleaseWhileCutOff(t *testing.T) {
	forBreaks(t, func(t *testing.T, k kind, name string, broken func(*coretest.Link)) {
		s, link := linked(t, longTTL)
		o := acquired(t, k.lock(s, name))
		waiter := background(t, within(t), kindOf(k.rival).lock(session(t), name))
		tickets(t, name, ticketsOf(kindOf(k.rival)))
		broken(link)
		release := make(chan error, 1)
		go func() { release <- o.release() }()
		<-o.Context().Done()
		link.Heal()
		select {
		case err := <-release:
			if err != nil {
				t.Fatal(err)
			}
		case <-within(t).Done():
			t.Fatal("the release hangs")
		}
		released(t, served(t, waiter))
		cleanedUp(t, name)
	})
}

// A wait is given up while the link is broken. The caller is told all the same,
// and its ticket goes when the link is whole.
func TestCancelWhileCutOff(t *testing.T) {
	forBreaks(t, func(t *testing.T, k kind, name string, broken func(*coretest.Link)) {
		owner := acquired(t, kindOf(k.rival).lock(session(t), name))
		s, link := linked(t, longTTL)
		ctx, cancel := context.WithCancel(within(t))
		waiter := background(t, ctx, k.lock(s, name))
		tickets(t, name, ticketsOf(k))
		broken(link)
		cancel()
		if r := outcome(t, waiter); !errors.Is(r.err, context.Canceled) {
			t.Fatalf("error %v, want the context's", r.err)
		}
		link.Heal()
		tickets(t, name, 0)
		released(t, owner)
		cleanedUp(t, name)
	})
}

// The link breaks for less than the TTL: the owner owns on.
func TestOwnerSurvivesABriefBreak(t *testing.T) {
	forBreaks(t, func(t *testing.T, k kind, name string, broken func(*coretest.Link)) {
		s, link := linked(t, longTTL)
		o := acquired(t, k.lock(s, name))
		for range 3 {
			broken(link)
			if _, err := kindOf(k.rival).try(session(t), name)(within(t)); !errors.Is(err, lock.ErrLocked) {
				t.Fatalf("a rival's try: %v, want ErrLocked", err)
			}
			link.Heal()
			stillOwns(t, o)
		}
		released(t, o)
		cleanedUp(t, name)
	})
}

// cutOff is one owner and one waiter of a session that is about to be cut off.
type cutOff struct {
	title       string
	k           kind
	name        string
	link        *coretest.Link
	own, rivals *ownership
	waiter      <-chan result
}

func newCutOff(t *testing.T, k kind, how string) *cutOff {
	s, link := linked(t, 5*time.Second)
	c := &cutOff{title: k.name + " " + how, k: k, name: etcd.Prefix(t), link: link}
	c.own = acquired(t, k.lock(s, c.name))
	c.rivals = acquired(t, kindOf(k.rival).lock(session(t), c.name+"-other"))
	c.waiter = background(t, within(t), k.lock(s, c.name+"-other"))
	tickets(t, c.name+"-other", ticketsOf(k))
	return c
}

// A session ends while it is cut off: the owner's context ends before anybody
// else owns, the waiter gives up, and the release says that the lock was lost.
func TestSessionExpiresWhileCutOff(t *testing.T) {
	t.Parallel()
	var all []*cutOff
	for _, k := range []kind{kindOf("mutex"), kindOf("read"), kindOf("permits"), kindOf("multi")} {
		for how, broken := range breaks {
			c := newCutOff(t, k, how)
			broken(c.link)
			all = append(all, c)
		}
	}
	for _, c := range all { // which wait for the same 5 s
		c.verify(t)
	}
}

func (c *cutOff) verify(t *testing.T) {
	next := acquired(t, kindOf(c.k.rival).lock(session(t), c.name))
	if c.own.Context().Err() == nil {
		t.Errorf("%s: two own at once: the context of the one before has not ended", c.title)
	}
	if cause := context.Cause(c.own.Context()); !errors.Is(cause, core.ErrSessionExpired) || !errors.Is(cause, lock.ErrLost) {
		t.Errorf("%s: cause %v, want ErrLost and ErrSessionExpired", c.title, cause)
	}
	if r := outcome(t, c.waiter); !errors.Is(r.err, core.ErrSessionExpired) {
		t.Errorf("%s: the waiter: %v, want ErrSessionExpired", c.title, r.err)
	}
	c.link.Heal()
	if err := c.own.release(); !errors.Is(err, lock.ErrLost) {
		t.Errorf("%s: release: %v, want ErrLost", c.title, err)
	}
	stillOwns(t, next)
	released(t, next)
	released(t, c.rivals)
	cleanedUp(t, c.name)
}
