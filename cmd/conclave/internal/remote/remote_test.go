package remote

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	barrierv1 "github.com/conclavehq/conclave/api/conclave/barrier/v1"
	electionv1 "github.com/conclavehq/conclave/api/conclave/election/v1"
	lockv1 "github.com/conclavehq/conclave/api/conclave/lock/v1"
	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/election"
	"github.com/conclavehq/conclave/internal/clock"
	"github.com/conclavehq/conclave/internal/ownership"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func testSession(ttl time.Duration) *Session {
	s := &Session{cfg: SessionConfig{TTL: ttl}, acked: clock.Now(), valid: withoutMargin(ttl)}
	s.ctx = ownership.NewContext(context.Background(), s.lapsed)
	return s
}

// Validity counts from the sending of the last heartbeat that was answered, however
// late the answer came, and an answer after the end revives nothing.
func TestValidity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := testSession(15 * time.Second)
		want := func(d time.Duration) {
			t.Helper()
			// Beside the bubble's clock the system's counts too, which hardly moves.
			if got := s.Remaining().Round(time.Second / 2); got != d {
				t.Errorf("%s remain, want %s", got, d)
			}
		}
		want(13500 * time.Millisecond)
		time.Sleep(5 * time.Second)
		sent := clock.Now()
		time.Sleep(4 * time.Second)
		want(4500 * time.Millisecond)
		s.answered(sent, 15*time.Second)
		want(9500 * time.Millisecond)
		s.answered(sent, 5*time.Second) // what was given is not taken back
		want(9500 * time.Millisecond)
		late := clock.Now()
		time.Sleep(9500 * time.Millisecond)
		if s.ctx.Err() == nil || !errors.Is(context.Cause(s.ctx), core.ErrSessionExpired) {
			t.Errorf("at the end of validity: %v", context.Cause(s.ctx))
		}
		s.answered(late, 15*time.Second)
		want(0)
	})
}

// An ownership is over when a complete state says so, and only then.
func TestLostIn(t *testing.T) {
	const token = 7<<tokenShift | 1
	locked := lockClaim{&lockv1.AcquireRequest{Name: "x"}}
	own := &lockv1.Holder{Token: token}
	other := &lockv1.Holder{Token: token + 1}
	led := electionClaim{&electionv1.CampaignRequest{Name: "x"}}
	told := func(d *electionv1.StepDown) *standing {
		return led.standing(&electionv1.Election{Leaders: []*electionv1.Leader{{Token: token, StepDown: d}}, LeaderCount: 1})
	}
	for _, c := range []struct {
		what  string
		claim claim
		state *standing
		cause error
	}{
		{"held", locked, locked.standing(&lockv1.Lock{Holders: []*lockv1.Holder{other, own}, HolderCount: 2}), nil},
		{"not shown among many", locked, locked.standing(&lockv1.Lock{Holders: []*lockv1.Holder{other}, HolderCount: 2}), nil},
		{"held by another", locked, locked.standing(&lockv1.Lock{Holders: []*lockv1.Holder{other}, HolderCount: 1}), core.ErrKeyDeleted},
		{"free", locked, nil, core.ErrKeyDeleted},
		{"revoked", locked, locked.standing(&lockv1.Lock{Holders: []*lockv1.Holder{{Token: token, Revocation: &lockv1.Revocation{By: "a", Reason: "b"}}}, HolderCount: 1}), core.ErrRevoked},
		{"leads", led, told(nil), nil},
		{"another leads", led, led.standing(&electionv1.Election{Leaders: []*electionv1.Leader{{Token: token + 1}}, LeaderCount: 1}), core.ErrKeyDeleted},
		{"vacant", led, led.standing(&electionv1.Election{}), core.ErrKeyDeleted},
		{"forced", led, told(&electionv1.StepDown{By: "a", Reason: "b"}), core.ErrRevoked},
		{"transferred", led, told(&electionv1.StepDown{By: "a", To: "c"}), election.ErrTransferred},
		{"transferred, leads until it resigns", led, told(&electionv1.StepDown{By: "a", To: "c"}), core.ErrReleased},
	} {
		h := &Held{claim: c.claim, token: token}
		if got := h.lostIn(c.state); !errors.Is(got, c.cause) {
			t.Errorf("%s: %v, want %v", c.what, got, c.cause)
		}
	}
	if got := (&Held{token: token}).grantedAt(); got != 7 {
		t.Errorf("granted at %d", got)
	}
}

// An opened barrier is one in whose complete state the hold is not.
func TestHoldLost(t *testing.T) {
	c := holdClaim{&barrierv1.HoldRequest{Name: "x"}}
	state := func(name string, kind barrierv1.Kind, tokens ...int64) *barrierv1.ListResponse {
		b := &barrierv1.State{Name: name, Kind: kind, There: int32(len(tokens))} //nolint:gosec // few
		for _, token := range tokens {
			b.Members = append(b.Members, &barrierv1.Party{Token: token})
		}
		return &barrierv1.ListResponse{Revision: 9, Barriers: []*barrierv1.State{b}}
	}
	const own = 7 << tokenShift
	for _, w := range []struct {
		what string
		resp *barrierv1.ListResponse
		lost bool
	}{
		{"held", state("x", barrierv1.Kind_KIND_BARRIER, 1, own), false},
		{"held by others", state("x", barrierv1.Kind_KIND_BARRIER, 1), true},
		{"open", &barrierv1.ListResponse{Revision: 9}, true},
		{"of another name", state("x2", barrierv1.Kind_KIND_BARRIER, own), true},
		{"of another kind", state("x", barrierv1.Kind_KIND_DOUBLE, own), true},
	} {
		n := c.news(w.resp)
		if got := (&Held{claim: c, token: own}).lostIn(n.state); (got != nil) != w.lost || !n.initial || n.revision != 9 {
			t.Errorf("%s: %v in %+v", w.what, got, n)
		}
	}
}

// What may pass is asked again; what cannot change is not.
func TestPasses(t *testing.T) {
	for _, c := range []struct {
		err  error
		want bool
	}{
		{&UnreachableError{URLs: []string{"a"}, Err: errors.New("refused")}, true},
		{status.Error(codes.Unavailable, "going away"), true},
		{recipe.Errorf(codes.Unavailable, "no_quorum", "x"), true},
		{recipe.Errorf(codes.Unknown, "outcome_unknown", "x"), true},
		{recipe.Errorf(codes.Aborted, "locked", "x"), false},
		{recipe.Errorf(codes.FailedPrecondition, "session_expired", "x"), false},
		{recipe.Errorf(codes.InvalidArgument, "invalid_name", "x"), false},
	} {
		if got := passes(c.err); got != c.want {
			t.Errorf("%v: %v", c.err, got)
		}
	}
}
