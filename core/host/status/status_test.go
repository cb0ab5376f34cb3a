package status_test

import (
	"context"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"

	hostv1 "github.com/conclavehq/conclave/api/conclave/host/v1"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/core/embedded"
	"github.com/conclavehq/conclave/core/host/status"
	"github.com/conclavehq/conclave/core/recipe"
)

func get(tb testing.TB, c hostv1.HostServiceClient) *hostv1.StatusResponse {
	tb.Helper()
	resp, err := c.Status(within(tb), &hostv1.StatusRequest{})
	if err != nil {
		tb.Fatal(err)
	}
	return resp
}

// wantProblems compares the reasons of what is wrong.
func wantProblems(tb testing.TB, got []*hostv1.Problem, want ...string) {
	tb.Helper()
	var reasons []string
	for _, p := range got {
		reasons = append(reasons, p.GetReason())
		if p.GetText() == "" || p.GetSeverity() == hostv1.Severity_SEVERITY_UNSPECIFIED {
			tb.Errorf("problem %v says too little", p)
		}
	}
	if len(reasons) != len(want) {
		tb.Fatalf("problems %q, want %q", got, want)
	}
	for i := range want {
		if reasons[i] != want[i] {
			tb.Fatalf("problems %q, want %q", got, want)
		}
	}
}

func TestStatusOfAHealthyHost(t *testing.T) {
	t.Parallel()
	recipes := []*hostv1.Recipe{{Name: "lock", Version: "1.0.0", State: hostv1.RecipeState_RECIPE_STATE_READY, Services: []string{"conclave.lock.v1.LockService"}}}
	_, c := start(t, etcd.Client(t), func(c *status.Config) {
		c.Embedded = true
		c.Recipes = func() []*hostv1.Recipe { return recipes }
		c.Sessions = func() int { return 7 }
	})
	got := get(t, c)
	wantProblems(t, got.GetProblems())
	if got.GetName() != "h1" || got.GetVersion() != "1.2.3" || got.GetSessions() != 7 || got.GetUptime().AsDuration() < 0 || !got.GetStartedAt().IsValid() {
		t.Errorf("got %v", got)
	}
	e := got.GetEtcd()
	if !e.GetServing() || e.GetMode() != hostv1.EtcdMode_ETCD_MODE_EMBEDDED || e.GetLeader() == "" || e.GetDbSize() == 0 || e.GetRevision() == 0 || e.GetAuthEnabled() || e.GetDbQuota() == 0 {
		t.Errorf("etcd %v", e)
	}
	list, err := c.ListMembers(within(t), &hostv1.ListMembersRequest{})
	if err != nil || len(list.GetMembers()) != 1 {
		t.Fatalf("members %v, %v", list, err)
	}
	if m := list.GetMembers()[0]; !m.GetHealthy() || !m.GetLeader() || m.GetId() != e.GetLeader() || m.GetVersion() == "" || m.GetName() == "" {
		t.Errorf("member %v", m)
	}
	all, err := c.ListRecipes(within(t), &hostv1.ListRecipesRequest{})
	if err != nil || len(all.GetRecipes()) != 1 || all.GetRecipes()[0].GetName() != "lock" {
		t.Errorf("recipes %v, %v", all, err)
	}
}

func TestLookingWritesNothing(t *testing.T) {
	t.Parallel()
	own := coretest.StartEtcd(t)
	_, c := start(t, own.Client(t))
	get(t, c)
	before := own.Revision(t)
	get(t, c)
	if after := own.Revision(t); after != before {
		t.Errorf("%d writes", after-before)
	}
}

// With etcd's authentication on, the host has no login, and says so.
func TestStatusSaysThatEtcdWantsALogin(t *testing.T) {
	t.Parallel()
	own := coretest.StartEtcd(t)
	_, c := start(t, own.Client(t))
	admin := own.Client(t)
	ctx := within(t)
	if _, err := admin.UserAdd(ctx, "root", "secret"); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.UserGrantRole(ctx, "root", "root"); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.AuthEnable(ctx); err != nil {
		t.Fatal(err)
	}
	got := get(t, c)
	wantProblems(t, got.GetProblems(), "auth_enabled")
	if e := got.GetEtcd(); !e.GetAuthEnabled() || !e.GetServing() {
		t.Errorf("etcd %v", e)
	}
	_, err := c.ListMembers(ctx, &hostv1.ListMembersRequest{})
	if recipe.Reason(err) != "unauthenticated" {
		t.Errorf("got %v", err)
	}
	root, err := clientv3.New(clientv3.Config{Endpoints: []string{own.Endpoint()}, Username: "root", Password: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = root.Close() }()
	_, known := start(t, root)
	got = get(t, known)
	wantProblems(t, got.GetProblems())
	if !got.GetEtcd().GetAuthEnabled() {
		t.Error("authentication is on, and the host with a login does not say so")
	}
	if _, err := root.AuthDisable(ctx); err != nil {
		t.Fatal(err)
	}
	wantProblems(t, get(t, c).GetProblems())
}

// A host whose login etcd has not checked yet does not say that it has none: who asks
// where the members are, as a host that joins does, may ask again.
func TestMembersWhileALoginIsChecked(t *testing.T) {
	t.Parallel()
	own, faults := coretest.StartEtcd(t), coretest.NewFaults()
	ctx := within(t)
	root, err := clientv3.New(clientv3.Config{Endpoints: []string{own.Endpoint()}, Username: "root", Password: "secret",
		DialOptions: faults.DialOptions()}) // before there is anything to log in to
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = root.Close() }()
	_, c := start(t, root)
	admin := own.Client(t)
	if _, err := admin.UserAdd(ctx, "root", "secret"); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.UserGrantRole(ctx, "root", "root"); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.AuthEnable(ctx); err != nil {
		t.Fatal(err)
	}
	checked := faults.LoseRequest(coretest.Method("Auth/Authenticate"), coretest.Always(), coretest.WithCode(codes.Unauthenticated))
	if _, err := c.ListMembers(ctx, &hostv1.ListMembersRequest{}); grpcstatus.Code(err) != codes.Unavailable {
		t.Errorf("before the login is checked: %v", err)
	}
	if checked.Fired() == 0 {
		t.Fatal("the host did not log in")
	}
	checked.Disarm()
	if list, err := c.ListMembers(ctx, &hostv1.ListMembersRequest{}); err != nil || len(list.GetMembers()) != 1 {
		t.Errorf("after it: %v, %v", list, err)
	}
}

func TestStatusNamesAlarms(t *testing.T) {
	t.Parallel()
	own := coretest.StartEtcd(t, coretest.WithConfig(func(c *embedded.Config) { c.QuotaBytes = 4 << 20 }))
	client := own.Client(t)
	_, c := start(t, client)
	for full := false; !full; {
		_, err := client.Put(within(t), "k", string(make([]byte, 512<<10)))
		full = err != nil
	}
	got := get(t, c)
	wantProblems(t, got.GetProblems(), "no_space")
	if a := got.GetEtcd().GetAlarms(); len(a) != 1 || a[0].GetKind() != "NOSPACE" || a[0].GetMemberId() == "" {
		t.Errorf("alarms %v", a)
	}
}

// An etcd that does not answer is told in words, and in time.
func TestStatusAnswersWithoutEtcd(t *testing.T) {
	t.Parallel()
	link := etcd.Link(t)
	client := coretest.Dial(t, link.Endpoint())
	_, c := start(t, client, func(c *status.Config) {
		c.Recipes = func() []*hostv1.Recipe {
			return []*hostv1.Recipe{{Name: "lock", State: hostv1.RecipeState_RECIPE_STATE_QUARANTINED, Message: "exit status 1"},
				{Name: "queue", State: hostv1.RecipeState_RECIPE_STATE_DEGRADED}}
		}
	})
	wantProblems(t, get(t, c).GetProblems(), "recipe_quarantined", "recipe_degraded")
	link.Blackhole(coretest.Both)
	got := get(t, c)
	wantProblems(t, got.GetProblems(), "no_quorum", "recipe_quarantined", "recipe_degraded")
	if got.GetEtcd().GetServing() {
		t.Error("an etcd that does not answer serves")
	}
	_, err := c.ListMembers(within(t), &hostv1.ListMembersRequest{})
	if recipe.Reason(err) != "no_quorum" || grpcstatus.Code(err) != codes.Unavailable {
		t.Errorf("got %v", err)
	}
	link.Heal()
}

func TestStatusNamesMembersThatAreDown(t *testing.T) {
	t.Parallel()
	own := coretest.StartEtcd(t)
	client := own.Client(t)
	if _, err := client.MemberAddAsLearner(within(t), []string{"http://127.0.0.1:1"}); err != nil {
		t.Fatal(err)
	}
	_, c := start(t, client)
	got := get(t, c)
	wantProblems(t, got.GetProblems(), "member_down")
	m := got.GetEtcd().GetMembers()
	if len(m) != 2 || m[0].GetHealthy() || !m[0].GetLearner() || m[0].GetError() == "" || !m[1].GetHealthy() {
		t.Errorf("members %v", m)
	}
}

func TestWatchersHearWhatHappens(t *testing.T) {
	t.Parallel()
	own := coretest.StartEtcd(t)
	client := own.Client(t)
	s, c := start(t, client)
	stream, err := c.WatchEvents(within(t), &hostv1.WatchEventsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if first, err := stream.Recv(); err != nil || first.GetEvent() != nil || !first.GetAt().IsValid() {
		t.Fatalf("first %v, %v", first, err)
	}
	s.RecipeChanged(&hostv1.Recipe{Name: "lock"})
	s.SessionReleased("id", "ns", "owner")
	if e, err := stream.Recv(); err != nil || e.GetRecipe().GetName() != "lock" {
		t.Errorf("got %v, %v", e, err)
	}
	if e, err := stream.Recv(); err != nil || e.GetSessionReleased().GetSessionId() != "id" || e.GetSessionReleased().GetOwner() != "owner" {
		t.Errorf("got %v, %v", e, err)
	}
	added, err := client.MemberAddAsLearner(within(t), []string{"http://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	if e, err := stream.Recv(); err != nil || e.GetProblemAppeared().GetReason() != "member_down" {
		t.Errorf("got %v, %v", e, err)
	}
	if _, err := client.MemberRemove(within(t), added.Member.ID); err != nil {
		t.Fatal(err)
	}
	if e, err := stream.Recv(); err != nil || e.GetProblemVanished().GetReason() != "member_down" {
		t.Errorf("got %v, %v", e, err)
	}
	if err := s.Stop(within(t)); err != nil {
		t.Fatal(err)
	}
	_, err = stream.Recv()
	if recipe.Reason(err) != "host_stopping" {
		t.Errorf("got %v", err)
	}
	again, err := c.WatchEvents(within(t), &hostv1.WatchEventsRequest{})
	if err == nil {
		_, err = again.Recv()
	}
	if recipe.Reason(err) != "host_stopping" {
		t.Errorf("got %v", err)
	}
}

// A reader that does not read costs no more than its backlog, and is told what it missed.
func TestSlowWatchersMissEvents(t *testing.T) {
	t.Parallel()
	s, c := start(t, etcd.Client(t))
	ctx, cancel := context.WithCancel(within(t))
	defer cancel()
	stream, err := c.WatchEvents(ctx, &hostv1.WatchEventsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	const sent = 20_000
	big := &hostv1.Recipe{Name: "lock", Message: string(make([]byte, 1024))}
	for range sent {
		s.RecipeChanged(big)
	}
	s.SessionReleased("last", "", "")
	heard, missed := 0, int64(0)
	for {
		// The end may be missed too, while the backlog is full: it is told again.
		s.SessionReleased("last", "", "")
		e, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		missed += e.GetMissed()
		if e.GetSessionReleased() != nil {
			break
		}
		heard++
	}
	if heard == sent || missed == 0 || int64(heard)+missed < sent {
		t.Errorf("heard %d and missed %d of %d", heard, missed, sent)
	}
}

func TestWatchersAreBounded(t *testing.T) {
	t.Parallel()
	_, c := start(t, etcd.Client(t))
	for range 256 {
		stream, err := c.WatchEvents(within(t), &hostv1.WatchEventsRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
	}
	stream, err := c.WatchEvents(within(t), &hostv1.WatchEventsRequest{})
	if err == nil {
		_, err = stream.Recv()
	}
	if recipe.Reason(err) != "limit_watchers" || grpcstatus.Code(err) != codes.ResourceExhausted {
		t.Errorf("got %v", err)
	}
}
