//go:build unix

package host_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/core/host"
	liblock "github.com/conclavehq/conclave/lock"
	"github.com/conclavehq/conclave/recipes/lock"
)

// A caller is a session over HTTP.
type caller struct {
	tb  testing.TB
	web *http.Client
	id  string
}

func newCaller(tb testing.TB, api string) caller {
	tb.Helper()
	c := caller{tb: tb, web: web(tb)}
	opened := post(tb, c.web, api, "session.v1.SessionService/Open", `{"ttl":"60s"}`)
	if opened.status != http.StatusOK {
		tb.Fatalf("open: %+v", opened)
	}
	c.id = opened.SessionID
	return c
}

func (c caller) call(api, method, fields string) answer {
	c.tb.Helper()
	return post(c.tb, c.web, api, "lock.v1.LockService/"+method, fmt.Sprintf(`{"sessionId":%q,%s}`, c.id, fields))
}

// The library and callers of two hosts exclude each other on one name, and hand
// it over to each other.
func TestLibraryAndHostsExcludeEachOther(t *testing.T) {
	t.Parallel()
	one, other := start(t, onEtcd(), host.WithRecipe(lock.Recipe{})), start(t, onEtcd(), host.WithRecipe(lock.Recipe{}))
	s, err := core.NewSession(within(t), etcd.Client(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	library := liblock.NewMutex(s, "shared")
	held, err := library.Lock(within(t))
	if err != nil {
		t.Fatal(err)
	}
	a, b := newCaller(t, one.API()), newCaller(t, other.API())
	if got := a.call(one.API(), "TryAcquire", `"name":"shared"`); got.Code != "aborted" || !strings.HasPrefix(got.Message, "locked: ") {
		t.Errorf("while the library holds it: %+v", got)
	}
	waiting := make(chan answer, 1)
	go func() { waiting <- a.call(one.API(), "Acquire", `"name":"shared"`) }()
	waiters(t, library, 1)
	if err := held.Unlock(); err != nil {
		t.Fatal(err)
	}
	got := <-waiting
	if got.status != http.StatusOK || got.number(t) <= held.Token() {
		t.Fatalf("after the library: %+v, its token was %d", got, held.Token())
	}
	if again := a.call(other.API(), "Acquire", `"name":"shared","wait":"0s"`); again.Token != got.Token {
		t.Errorf("again at the other host: %+v, want token %s", again, got.Token)
	}
	if _, err := library.TryLock(within(t)); !errors.Is(err, liblock.ErrLocked) {
		t.Errorf("the library while a caller holds it: %v", err)
	}
	go func() { waiting <- b.call(other.API(), "Acquire", `"name":"shared"`) }()
	waiters(t, library, 1)
	if released := a.call(other.API(), "Release", fmt.Sprintf(`"name":"shared","token":%q`, got.Token)); released.status != http.StatusOK {
		t.Fatalf("release at the other host: %+v", released)
	}
	next := <-waiting
	if next.status != http.StatusOK || next.Token == got.Token {
		t.Fatalf("after the caller: %+v", next)
	}
	if stale := a.call(one.API(), "Release", fmt.Sprintf(`"name":"shared","token":%q`, got.Token)); !strings.HasPrefix(stale.Message, "not_owner: ") {
		t.Errorf("released twice: %+v", stale)
	}
	if stale := b.call(one.API(), "Release", fmt.Sprintf(`"name":"shared","token":%q`, got.Token)); !strings.HasPrefix(stale.Message, "stale_token: ") {
		t.Errorf("released with another's token: %+v", stale)
	}
	if released := b.call(one.API(), "Release", fmt.Sprintf(`"name":"shared","token":%q`, next.Token)); released.status != http.StatusOK {
		t.Errorf("release: %+v", released)
	}
}

// number is the token as a number.
func (a answer) number(tb testing.TB) core.Token {
	tb.Helper()
	n, err := strconv.ParseInt(a.Token, 10, 64)
	if err != nil {
		tb.Errorf("token: %v", err)
	}
	return core.Token(n)
}

// waiters returns when so many wait.
func waiters(t *testing.T, m *liblock.Mutex, n int) {
	t.Helper()
	for ctx := within(t); ; {
		all, err := m.Contenders(ctx)
		if err != nil {
			t.Fatal(err)
		}
		waiting := 0
		for _, c := range all {
			if !c.Holds {
				waiting++
			}
		}
		if waiting == n {
			return
		}
	}
}

// A host that is killed takes neither locks nor places in line with it.
func TestKilledHostLosesNothing(t *testing.T) {
	t.Parallel()
	p := coretest.Child(t, "host", endpointEnv+"="+etcd.Endpoint())
	doomed := strings.TrimPrefix(p.ExpectLine("ready "), "ready ")
	owner, next := newCaller(t, doomed), newCaller(t, doomed)
	held := owner.call(doomed, "Acquire", `"name":"outlives"`)
	if held.status != http.StatusOK {
		t.Fatalf("acquired %+v", held)
	}
	cut := make(chan error, 1)
	go func() { cut <- next.cutOff(within(t), doomed, `"name":"outlives"`) }()
	s, err := core.NewSession(within(t), etcd.Client(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	library := liblock.NewMutex(s, "outlives")
	waiters(t, library, 1)
	p.Kill()
	if err := <-cut; err == nil {
		t.Error("the waiting call was answered by a host that is dead")
	}
	behind := make(chan *liblock.Held, 1)
	go func() {
		h, err := library.Lock(within(t))
		if err != nil {
			t.Error(err)
		}
		behind <- h
	}()
	waiters(t, library, 2)
	h := start(t, onEtcd(), host.WithRecipe(lock.Recipe{}))
	if again := owner.call(h.API(), "Acquire", `"name":"outlives","wait":"0s"`); again.Token != held.Token {
		t.Errorf("the owner at the next host: %+v, want token %s", again, held.Token)
	}
	waiting := make(chan answer, 1)
	go func() { waiting <- next.call(h.API(), "Acquire", `"name":"outlives"`) }()
	if released := owner.call(h.API(), "Release", fmt.Sprintf(`"name":"outlives","token":%q`, held.Token)); released.status != http.StatusOK {
		t.Errorf("release at the next host: %+v", released)
	}
	got := <-waiting // before the library, which came later
	if got.status != http.StatusOK {
		t.Fatalf("the next in line: %+v", got)
	}
	if released := next.call(h.API(), "Release", fmt.Sprintf(`"name":"outlives","token":%q`, got.Token)); released.status != http.StatusOK {
		t.Errorf("release: %+v", released)
	}
	if l := <-behind; l != nil {
		if l.Token() <= got.number(t) {
			t.Errorf("tokens %d after %s", l.Token(), got.Token)
		}
		if err := l.Unlock(); err != nil {
			t.Error(err)
		}
	}
}

// cutOff calls Acquire and returns how the connection ended.
func (c caller) cutOff(ctx context.Context, api, fields string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, api+"/conclave.lock.v1.LockService/Acquire",
		strings.NewReader(fmt.Sprintf(`{"sessionId":%q,%s}`, c.id, fields)))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.web.Do(req)
	if err == nil {
		_ = resp.Body.Close()
	}
	return err
}

// A host that is stopped in order leaves waiting callers their places too.
func TestStoppedHostKeepsPlacesInLine(t *testing.T) {
	t.Parallel()
	first := start(t, onEtcd(), host.WithRecipe(lock.Recipe{}))
	next := newCaller(t, first.API())
	s, err := core.NewSession(within(t), etcd.Client(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	library := liblock.NewMutex(s, "kept place")
	held, err := library.Lock(within(t))
	if err != nil {
		t.Fatal(err)
	}
	cut := make(chan answer, 1)
	go func() { cut <- next.call(first.API(), "Acquire", `"name":"kept place"`) }()
	waiters(t, library, 1)
	stop(t, first)
	if got := <-cut; got.Code != "unavailable" {
		t.Errorf("the waiting call: %+v", got)
	}
	waiters(t, library, 1) // it still stands in line
	if err := held.Unlock(); err != nil {
		t.Fatal(err)
	}
	second := start(t, onEtcd(), host.WithRecipe(lock.Recipe{}))
	if got := next.call(second.API(), "Acquire", `"name":"kept place","wait":"0s"`); got.status != http.StatusOK {
		t.Errorf("at the next host: %+v", got)
	}
	if got := post(t, next.web, second.API(), "session.v1.SessionService/Close", fmt.Sprintf(`{"sessionId":%q}`, next.id)); got.status != http.StatusOK {
		t.Errorf("close: %+v", got)
	}
}

// A host that is full of callers who wait still lets the release through that
// they wait for.
func TestReleaseGetsThroughAHostFullOfWaiters(t *testing.T) {
	t.Parallel()
	cfg := onEtcd()
	cfg.Limits.Calls = 2
	h := start(t, cfg, host.WithRecipe(lock.Recipe{}))
	owner := newCaller(t, h.API())
	late := newCaller(t, h.API())
	held := owner.call(h.API(), "Acquire", `"name":"crowded"`)
	s, err := core.NewSession(within(t), etcd.Client(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	answers := make(chan answer, 2)
	for range 2 {
		c := newCaller(t, h.API())
		go func() {
			a := c.call(h.API(), "Acquire", `"name":"crowded"`)
			c.call(h.API(), "Release", fmt.Sprintf(`"name":"crowded","token":%q`, a.Token))
			answers <- a
		}()
	}
	waiters(t, liblock.NewMutex(s, "crowded"), 2)
	if got := late.call(h.API(), "Acquire", `"name":"another"`); !strings.HasPrefix(got.Message, "limit_calls: ") {
		t.Errorf("one too many: %+v", got)
	}
	if got := owner.call(h.API(), "Release", fmt.Sprintf(`"name":"crowded","token":%q`, held.Token)); got.status != http.StatusOK {
		t.Errorf("the release: %+v", got)
	}
	for range 2 {
		if got := <-answers; got.status != http.StatusOK {
			t.Errorf("who waited: %+v", got)
		}
	}
}
