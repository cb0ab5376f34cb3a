package session_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	sessionv1 "github.com/conclavehq/conclave/api/conclave/session/v1"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/core/host/session"
	"github.com/conclavehq/conclave/core/recipe"
)

func open(tb testing.TB, c sessionv1.SessionServiceClient, r *sessionv1.OpenRequest) *sessionv1.OpenResponse {
	tb.Helper()
	resp, err := c.Open(within(tb), r)
	if err != nil {
		tb.Fatal(err)
	}
	return resp
}

// lease returns the lease of a session, as recipes get it.
func (h *host) lease(tb testing.TB, id, namespace string) clientv3.LeaseID {
	tb.Helper()
	md, err := h.Resolve(within(tb), id, namespace)
	if err != nil {
		tb.Fatal(err)
	}
	lease, err := strconv.ParseInt(md.Get(recipe.MetaLease)[0], 16, 64)
	if err != nil {
		tb.Fatal(err)
	}
	return clientv3.LeaseID(lease)
}

func TestASessionIsALeaseUntilItIsClosed(t *testing.T) {
	t.Parallel()
	h := start(t, etcd.Client(t))
	c := h.dial(t)
	ns := namespace(t)
	opened := open(t, c, &sessionv1.OpenRequest{Ttl: durationpb.New(6500 * time.Millisecond), Owner: "größe/1", Namespace: ns})
	if got := opened.GetTtl().AsDuration(); got != 7*time.Second {
		t.Errorf("granted %v", got)
	}
	if got := opened.GetHeartbeat().AsDuration(); got != 7*time.Second/3 {
		t.Errorf("heartbeat %v", got)
	}
	if opened.GetFastRelease() {
		t.Error("fast release was not asked for")
	}
	id := opened.GetSessionId()
	ctx := metadata.NewIncomingContext(within(t), nil)
	md, err := h.Resolve(ctx, id, ns)
	if err != nil {
		t.Fatal(err)
	}
	caller, ok := recipe.CallerFrom(metadata.NewIncomingContext(ctx, md))
	want := recipe.Caller{Session: id, Lease: caller.Lease, TTL: 7 * time.Second, Owner: "größe/1", Namespace: ns}
	if !ok || caller != want {
		t.Errorf("a recipe sees %+v, want %+v", caller, want)
	}
	renewed, err := c.Renew(within(t), &sessionv1.RenewRequest{SessionId: id, Namespace: ns})
	if err != nil || renewed.GetTtl().AsDuration() != 7*time.Second {
		t.Errorf("renewed for %v, %v", renewed.GetTtl().AsDuration(), err)
	}
	other := etcd.Client(t)
	if _, err := other.Put(within(t), ns+"/owned", "v", clientv3.WithLease(caller.Lease)); err != nil {
		t.Fatal(err)
	}
	for range 2 { // closing is idempotent
		if _, err := c.Close(within(t), &sessionv1.CloseRequest{SessionId: id, Namespace: ns}); err != nil {
			t.Fatal(err)
		}
	}
	if left := etcd.Dump(t, ns+"/owned"); len(left) != 0 {
		t.Errorf("what it owned is still there: %v", left)
	}
	_, err = c.Renew(within(t), &sessionv1.RenewRequest{SessionId: id, Namespace: ns})
	wantReason(t, err, "session_expired")
	if status.Code(err) != codes.FailedPrecondition || !strings.HasPrefix(status.Convert(err).Message(), "session_expired: ") {
		t.Errorf("got %v", err)
	}
}

func TestAnyHostServesAnySession(t *testing.T) {
	t.Parallel()
	a, b := start(t, etcd.Client(t)), start(t, etcd.Client(t))
	ns := namespace(t)
	id := open(t, a.dial(t), &sessionv1.OpenRequest{Namespace: ns}).GetSessionId()
	if a.lease(t, id, ns) != b.lease(t, id, ns) {
		t.Error("the hosts disagree about the lease")
	}
	if _, err := b.dial(t).Renew(within(t), &sessionv1.RenewRequest{SessionId: id, Namespace: ns}); err != nil {
		t.Error(err)
	}
	if _, err := b.dial(t).Close(within(t), &sessionv1.CloseRequest{SessionId: id, Namespace: ns}); err != nil {
		t.Error(err)
	}
	_, err := a.dial(t).Renew(within(t), &sessionv1.RenewRequest{SessionId: id, Namespace: ns})
	wantReason(t, err, "session_expired")
}

func TestListIsPagedAndOldestFirst(t *testing.T) {
	t.Parallel()
	h := start(t, etcd.Client(t))
	c := h.dial(t)
	ns := namespace(t)
	var want []string
	for i := range 5 {
		want = append(want, open(t, c, &sessionv1.OpenRequest{Namespace: ns, Owner: strconv.Itoa(i)}).GetSessionId())
	}
	open(t, c, &sessionv1.OpenRequest{Namespace: ns + "2"})
	coretest.ExpireLease(t, etcd.Client(t), h.lease(t, want[2], ns))
	want = append(want[:2], want[3:]...)
	var got []string
	r := &sessionv1.ListRequest{Namespace: ns, PageSize: 2}
	for pages := 0; ; pages++ {
		resp, err := c.List(within(t), r)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range resp.GetSessions() {
			if left := s.GetRemaining().AsDuration(); left <= 0 || left > s.GetTtl().AsDuration() || s.GetNamespace() != ns || s.GetLease() == 0 {
				t.Errorf("got %v", s)
			}
			got = append(got, s.GetSessionId())
		}
		if r.PageToken = resp.GetNextPageToken(); r.GetPageToken() == "" {
			break
		}
		if pages > 5 {
			t.Fatal("the list has no end")
		}
	}
	if strings.Join(got, ",") != strings.Join(want, ",") {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestBadInputIsRefusedAndWritesNothing(t *testing.T) {
	t.Parallel()
	own := coretest.StartEtcd(t)
	h := start(t, own.Client(t))
	c := h.dial(t)
	id := open(t, c, &sessionv1.OpenRequest{}).GetSessionId()
	before := own.Revision(t)
	ttl := func(d *durationpb.Duration) func() error {
		return func() error {
			_, err := c.Open(within(t), &sessionv1.OpenRequest{Ttl: d})
			return err
		}
	}
	opening := func(owner, ns string) func() error {
		return func() error {
			_, err := c.Open(within(t), &sessionv1.OpenRequest{Owner: owner, Namespace: ns})
			return err
		}
	}
	renew := func(id, ns string) func() error {
		return func() error {
			_, err := c.Renew(within(t), &sessionv1.RenewRequest{SessionId: id, Namespace: ns})
			return err
		}
	}
	list := func(r *sessionv1.ListRequest) func() error {
		return func() error {
			_, err := c.List(within(t), r)
			return err
		}
	}
	for name, test := range map[string]struct {
		call   func() error
		reason string
	}{
		"ttl zero":           {ttl(durationpb.New(0)), "invalid_ttl"},
		"ttl negative":       {ttl(durationpb.New(-time.Second)), "invalid_ttl"},
		"ttl just too short": {ttl(durationpb.New(5*time.Second - 1)), "invalid_ttl"},
		"ttl just too long":  {ttl(durationpb.New(time.Hour + 1)), "invalid_ttl"},
		"ttl for ever":       {ttl(&durationpb.Duration{Seconds: 315_576_000_000}), "invalid_ttl"},
		"ttl overflows":      {ttl(&durationpb.Duration{Seconds: 1 << 62}), "invalid_ttl"},
		"ttl mixed signs":    {ttl(&durationpb.Duration{Seconds: 10, Nanos: -1}), "invalid_ttl"},
		"owner too long":     {opening(strings.Repeat("a", 256), ""), "invalid_owner"},
		"owner control":      {opening("a\x1b[2J", ""), "invalid_owner"},
		"namespace slash":    {opening("", "a/b"), "invalid_namespace"},
		"namespace dots":     {opening("", ".."), "invalid_namespace"},
		"namespace long":     {opening("", strings.Repeat("a", 256)), "invalid_namespace"},
		"no id":              {renew("", ""), "invalid_session_id"},
		"not an id":          {renew("../../x", ""), "invalid_session_id"},
		"upper case":         {renew(strings.ToUpper(id), ""), "invalid_session_id"},
		"braces":             {renew("{"+id+"}", ""), "invalid_session_id"},
		"unknown id":         {renew(uuid.NewString(), ""), "session_expired"},
		"other namespace":    {renew(id, "other"), "invalid_namespace"},
		"id with namespace":  {renew(id, "a/b"), "invalid_namespace"},
		"page size":          {list(&sessionv1.ListRequest{PageSize: -1}), "invalid_page_size"},
		"page token":         {list(&sessionv1.ListRequest{PageToken: "zz"}), "invalid_page_token"},
		"page token 2":       {list(&sessionv1.ListRequest{PageToken: "LTE"}), "invalid_page_token"},
	} {
		t.Run(name, func(t *testing.T) {
			err := test.call()
			wantReason(t, err, test.reason)
			code := codes.InvalidArgument
			if test.reason == "session_expired" {
				code = codes.FailedPrecondition
			}
			if status.Code(err) != code {
				t.Errorf("got %v, want the code %v", err, code)
			}
		})
	}
	if after := own.Revision(t); after != before {
		t.Errorf("%d writes", after-before)
	}
	if resp, err := own.Client(t).Leases(within(t)); err != nil || len(resp.Leases) != 1 {
		t.Errorf("leases %v, %v", resp, err)
	}
}

func TestTheLimitCountsLiveSessions(t *testing.T) {
	t.Parallel()
	h := start(t, etcd.Client(t), func(c *session.Config) { c.Sessions = 2 })
	c := h.dial(t)
	ns := namespace(t)
	first := open(t, c, &sessionv1.OpenRequest{Namespace: ns}).GetSessionId()
	open(t, c, &sessionv1.OpenRequest{Namespace: ns})
	_, err := c.Open(within(t), &sessionv1.OpenRequest{Namespace: ns})
	wantReason(t, err, "limit_sessions")
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("got %v", err)
	}
	coretest.ExpireLease(t, etcd.Client(t), h.lease(t, first, ns))
	for ctx := within(t); ; { // until the host has heard of it
		_, err := c.Open(ctx, &sessionv1.OpenRequest{Namespace: ns})
		if err == nil {
			break
		}
		if recipe.Reason(err) != "limit_sessions" {
			t.Fatal(err)
		}
	}
}

func TestASessionIsItsOpeners(t *testing.T) {
	t.Parallel()
	h := start(t, etcd.Client(t))
	c := h.dial(t)
	ns := namespace(t)
	opened, err := c.Open(as(within(t), "alice"), &sessionv1.OpenRequest{Namespace: ns})
	if err != nil {
		t.Fatal(err)
	}
	id := opened.GetSessionId()
	for _, who := range []string{"bob", ""} {
		ctx := as(within(t), who)
		_, err := c.Renew(ctx, &sessionv1.RenewRequest{SessionId: id, Namespace: ns})
		wantReason(t, err, "not_permitted")
		_, err = c.Close(ctx, &sessionv1.CloseRequest{SessionId: id, Namespace: ns})
		wantReason(t, err, "not_permitted")
		_, err = h.Resolve(metadata.NewIncomingContext(ctx, metadata.Pairs(recipe.MetaIdentity, who)), id, ns)
		wantReason(t, err, "not_permitted")
	}
	if _, err := c.Renew(as(within(t), "alice"), &sessionv1.RenewRequest{SessionId: id, Namespace: ns}); err != nil {
		t.Error(err)
	}
}
