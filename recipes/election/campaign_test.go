package election_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	electionv1 "github.com/conclavehq/conclave/api/conclave/election/v1"
	"github.com/conclavehq/conclave/core/coretest"
)

// keys returns what stands below a name, and since when.
func keys(tb testing.TB, ns, name string) (all string) {
	tb.Helper()
	for _, kv := range etcd.Dump(tb, fmt.Sprintf("/conclave/%s/election/%s/", ns, strings.ReplaceAll(name, "/", "%2F"))) {
		all += fmt.Sprintf("%s at %d\n", kv.Key, kv.ModRevision)
	}
	return all
}

func TestCampaignAndResign(t *testing.T) {
	t.Parallel()
	h, name := startHost(t, etcd.Client(t), nil), etcd.Prefix(t)
	a, b := open(t, "a", "default"), open(t, "b", "default")
	token := h.campaign(t, a, name, "v")
	before := keys(t, "default", name)
	if again := h.campaign(t, a, name, "v"); again != token {
		t.Errorf("the same session gets the tokens %d and %d", token, again)
	}
	if again, err := h.Campaign(a.ctx, &electionv1.CampaignRequest{SessionId: a.id, Name: name, Value: "v", Wait: durationpb.New(0)}); err != nil || again.GetToken() != token {
		t.Errorf("trying while it leads it gets %v, %v", again, err)
	}
	_, err := h.try(b, name)
	want(t, err, codes.Aborted, "locked")
	if !strings.Contains(err.Error(), "led by a") {
		t.Errorf("the leader is not in %q", err)
	}
	want(t, h.resign(b, name, token), codes.FailedPrecondition, "not_owner")
	stale := h.resign(a, name, token+1<<16)
	want(t, stale, codes.FailedPrecondition, "stale_token")
	if !strings.Contains(stale.Error(), fmt.Sprint("it is ", token)) {
		t.Errorf("the token is not in %q", stale)
	}
	if now := keys(t, "default", name); now != before && !strings.Contains(now, "/void/") {
		t.Errorf("before what was refused stood\n%s\nafter it\n%s", before, now)
	}
	if err := h.resign(a, name, token); err != nil {
		t.Fatal(err)
	}
	want(t, h.resign(a, name, token), codes.FailedPrecondition, "not_owner")
	next, err := h.try(b, name)
	if err != nil || next <= token {
		t.Fatalf("the next one gets %d after %d, %v", next, token, err)
	}
	want(t, h.resign(a, name, token), codes.FailedPrecondition, "not_owner")
	if err := h.resign(b, name, next); err != nil {
		t.Fatal(err)
	}
}

// A leader who campaigns with another value proclaims it, at whatever host, and does
// not stand behind itself.
func TestCampaignOfTheLeaderProclaims(t *testing.T) {
	t.Parallel()
	one, two, name := startHost(t, etcd.Client(t), nil), startHost(t, etcd.Client(t), nil), etcd.Prefix(t)
	holder, c := open(t, "holder", "default"), open(t, "c", "default")
	shows := func(value string, token int64) {
		t.Helper()
		l, err := two.Leader(testContext(t), &electionv1.LeaderRequest{Name: name})
		if err != nil || l.GetValue() != value || l.GetToken() != token {
			t.Fatalf("it shows %v, %v, want %q", l, err, value)
		}
	}
	first := one.campaign(t, holder, name, "x")
	shows("x", first)
	waiting := one.campaigning(c.ctx, c, name, "one")
	one.inLine(t, "default", name, 1)
	second := two.campaigning(c.ctx, c, name, "two") // takes the place up
	eventually(t, "the first call has ended", func() bool { return len(waiting) == 1 || len(contenders(t, one, "default", name).GetCandidates()) == 1 })
	if err := two.resign(holder, name, first); err != nil {
		t.Fatal(err)
	}
	got := <-second
	if got.err != nil {
		t.Fatal(got.err)
	}
	<-waiting // whatever it says: the same, or that another host goes on with it
	if token := two.campaign(t, c, name, "three"); token != got.token {
		t.Fatalf("it stood again: %d after %d", token, got.token)
	}
	shows("three", got.token)
	if token := one.campaign(t, c, name, ""); token != got.token {
		t.Fatalf("it stood again: %d after %d", token, got.token)
	}
	shows("", got.token)
	if err := one.resign(c, name, got.token); err != nil {
		t.Fatal(err)
	}
	eventually(t, "nothing is left but what keeps late requests away", func() bool {
		return !strings.Contains(strings.ReplaceAll(keys(t, "default", name), "/void/", ""), "election/"+name+"/given")
	})
}

func TestProclaim(t *testing.T) {
	t.Parallel()
	one, two, name := startHost(t, etcd.Client(t), nil), startHost(t, etcd.Client(t), nil), etcd.Prefix(t)
	a, b := open(t, "a", "default"), open(t, "b", "default")
	proclaim := func(h *host, c *caller, token int64, value string) error {
		_, err := h.Proclaim(c.ctx, &electionv1.ProclaimRequest{SessionId: c.id, Name: name, Token: token, Value: value})
		return err
	}
	want(t, proclaim(one, a, 1<<16, "v"), codes.FailedPrecondition, "not_owner")
	token := one.campaign(t, a, name, "first")
	for k, h := range []*host{one, one, two, two, one} {
		value := fmt.Sprint("value ", k)
		if err := proclaim(h, a, token, value); err != nil {
			t.Fatal(err)
		}
		if l, err := two.Leader(testContext(t), &electionv1.LeaderRequest{Name: name}); err != nil || l.GetValue() != value || l.GetLeaders()[0].GetValue() != value {
			t.Fatalf("after %q it shows %v, %v", value, l, err)
		}
	}
	want(t, proclaim(one, b, token, "v"), codes.FailedPrecondition, "not_owner")
	want(t, proclaim(two, a, token+1<<16, "v"), codes.FailedPrecondition, "stale_token")
	want(t, proclaim(one, a, token, strings.Repeat("v", 4097)), codes.InvalidArgument, "invalid_value")
	if err := two.resign(a, name, token); err != nil {
		t.Fatal(err)
	}
	want(t, proclaim(one, a, token, "v"), codes.FailedPrecondition, "not_owner")
	_, err := one.Leader(testContext(t), &electionv1.LeaderRequest{Name: name})
	want(t, err, codes.NotFound, "not_found")
}

// TestLibraryAndService: users of both stand against each other and hand over to
// each other.
func TestLibraryAndService(t *testing.T) {
	t.Parallel()
	h, name := startHost(t, etcd.Client(t), nil), etcd.Prefix(t)
	remote := open(t, "remote", "default")
	token := h.campaign(t, remote, name, "v")
	won := stands(t, session(t, "local", "default"), name)
	h.inLine(t, "default", name, 1)
	if err := h.resign(remote, name, token); err != nil {
		t.Fatal(err)
	}
	term := <-won
	_, err := h.try(remote, name)
	want(t, err, codes.Aborted, "locked")
	standing := h.campaigning(remote.ctx, remote, name, "v")
	h.inLine(t, "default", name, 1)
	resign(t, term)
	next := <-standing
	if next.err != nil || next.token <= int64(term.Token()) {
		t.Fatalf("after the library's resignation: %v", next)
	}
	if err := h.resign(remote, name, next.token); err != nil {
		t.Fatal(err)
	}
}

func TestWaits(t *testing.T) {
	t.Parallel()
	h, name := startHost(t, etcd.Client(t), nil), etcd.Prefix(t)
	a, b := open(t, "a", "default"), open(t, "b", "default")
	token := h.campaign(t, a, name, "v")
	_, err := h.Campaign(b.ctx, &electionv1.CampaignRequest{SessionId: b.id, Name: name, Wait: durationpb.New(50 * time.Millisecond)})
	want(t, err, codes.Aborted, "locked")
	if !strings.Contains(err.Error(), "led by a") || !strings.Contains(err.Error(), "50ms") {
		t.Errorf("after a wait it says %q", err)
	}
	h.inLine(t, "default", name, 0)
	short, cancel := context.WithTimeout(b.ctx, 50*time.Millisecond)
	defer cancel()
	_, err = h.Campaign(short, &electionv1.CampaignRequest{SessionId: b.id, Name: name})
	if status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("after the deadline it says %v", err)
	}
	h.inLine(t, "default", name, 0)
	cancelled, stop := context.WithCancel(b.ctx)
	standing := h.campaigning(cancelled, b, name, "v")
	h.inLine(t, "default", name, 1)
	stop()
	if got := <-standing; status.Code(got.err) != codes.Canceled {
		t.Errorf("after a cancel it says %v", got.err)
	}
	h.inLine(t, "default", name, 0)
	if err := h.resign(a, name, token); err != nil {
		t.Fatal(err)
	}
}

// TestPlaceAndTermOutliveTheHost: whoever stands at a host that stops keeps the place
// in line, and whoever leads keeps leading.
func TestPlaceAndTermOutliveTheHost(t *testing.T) {
	t.Parallel()
	one, two := startHost(t, etcd.Client(t), nil), startHost(t, etcd.Client(t), nil)
	name := etcd.Prefix(t)
	leader, first, second := open(t, "leader", "default"), open(t, "first", "default"), open(t, "second", "default")
	token := one.campaign(t, leader, name, "v")
	standing := one.campaigning(first.ctx, first, name, "1")
	two.inLine(t, "default", name, 1)
	later := two.campaigning(second.ctx, second, name, "2")
	two.inLine(t, "default", name, 2)
	one.Stop(t)
	want(t, (<-standing).err, codes.Unavailable, "recipe_restarting")
	if w := contenders(t, two, "default", name).GetCandidates(); len(w) != 2 || w[0].GetOwner() != "first" || w[0].GetValue() != "1" {
		t.Fatalf("after the stop stand %v", w)
	}
	if again := two.campaign(t, leader, name, "v"); again != token {
		t.Fatalf("after the stop the leader has the token %d, not %d", again, token)
	}
	standing = two.campaigning(first.ctx, first, name, "1")
	if err := two.resign(leader, name, token); err != nil {
		t.Fatal(err)
	}
	got := <-standing
	if got.err != nil {
		t.Fatal(got.err)
	}
	if err := two.resign(first, name, got.token); err != nil {
		t.Fatal(err)
	}
	next := <-later
	if next.err != nil || next.token <= got.token {
		t.Fatalf("the second gets %v after %d", next, got.token)
	}
	if err := two.resign(second, name, next.token); err != nil {
		t.Fatal(err)
	}
}

// TestCallsOfOneSession: two calls of one session stand in one place and get one
// token; if one of them goes, the other one stays.
func TestCallsOfOneSession(t *testing.T) {
	t.Parallel()
	h, name := startHost(t, etcd.Client(t), nil), etcd.Prefix(t)
	leader, c := open(t, "leader", "default"), open(t, "c", "default")
	token := h.campaign(t, leader, name, "v")
	goes, stop := context.WithCancel(c.ctx)
	first := h.campaigning(goes, c, name, "v")
	h.inLine(t, "default", name, 1)
	second, third := h.campaigning(c.ctx, c, name, "v"), h.campaigning(c.ctx, c, name, "v")
	stop()
	if got := <-first; status.Code(got.err) != codes.Canceled {
		t.Errorf("the one that goes gets %v", got)
	}
	if err := h.resign(leader, name, token); err != nil {
		t.Fatal(err)
	}
	a, b := <-second, <-third
	if a.err != nil || b.err != nil || a.token != b.token {
		t.Fatalf("they get %v and %v", a, b)
	}
	if err := h.resign(c, name, a.token); err != nil {
		t.Fatal(err)
	}
	want(t, h.resign(c, name, b.token), codes.FailedPrecondition, "not_owner")
}

// A candidate whose session ends is told so, and never leads.
func TestSessionThatExpired(t *testing.T) {
	t.Parallel()
	h, name := startHost(t, etcd.Client(t), nil), etcd.Prefix(t)
	a, b, c := open(t, "a", "default"), open(t, "b", "default"), open(t, "c", "default")
	token := h.campaign(t, a, name, "v")
	gone := h.campaigning(b.ctx, b, name, "v")
	h.inLine(t, "default", name, 1)
	standing := h.campaigning(c.ctx, c, name, "v")
	h.inLine(t, "default", name, 2)
	coretest.ExpireLease(t, etcd.Client(t), b.lease)
	want(t, (<-gone).err, codes.FailedPrecondition, "session_expired")
	coretest.ExpireLease(t, etcd.Client(t), a.lease)
	next := <-standing
	if next.err != nil || next.token <= token {
		t.Fatalf("the one that stood gets %v", next)
	}
	_, err := h.try(a, name+"-other")
	want(t, err, codes.FailedPrecondition, "session_expired")
	if err := h.resign(a, name, token); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("a resignation after the expiry: %v", err)
	}
	if err := h.resign(c, name, next.token); err != nil {
		t.Fatal(err)
	}
}

// TestCrowd: many callers at two hosts and users of the library take turns, and never
// two at a time.
func TestCrowd(t *testing.T) {
	t.Parallel()
	hosts := []*host{startHost(t, etcd.Client(t), nil), startHost(t, etcd.Client(t), nil)}
	name, resource := etcd.Prefix(t), new(fenced)
	local := session(t, "local", "default")
	var all sync.WaitGroup
	for i := range 6 {
		c := open(t, fmt.Sprintf("caller-%d", i), "default")
		all.Go(func() {
			for k := range 10 {
				got := <-hosts[(i+k)%2].campaigning(c.ctx, c, name, fmt.Sprint(k))
				if got.err != nil {
					t.Error(got.err)
					return
				}
				resource.use(t, got.token)
				if err := hosts[(i+k/2)%2].resign(c, name, got.token); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Go(func() {
		for range 10 {
			term := leads(t, local, name)
			resource.use(t, int64(term.Token()))
			resign(t, term)
		}
	})
	all.Wait()
	if resource.uses != 70 {
		t.Errorf("it was used %d times", resource.uses)
	}
}

// fenced is what a leader does: nothing else protects it.
type fenced struct {
	inside bool
	last   int64
	uses   int
}

func (f *fenced) use(tb testing.TB, token int64) {
	if f.inside || token <= f.last {
		tb.Errorf("token %d after %d, inside: %v", token, f.last, f.inside)
	}
	f.inside, f.last = true, token
	f.uses++
	f.inside = false
}
