package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	hostv1 "github.com/conclavehq/conclave/api/conclave/host/v1"
	"github.com/conclavehq/conclave/cmd/conclave/internal/remote"
	"github.com/conclavehq/conclave/core/host/status"
)

func (a *app) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show the host, its etcd, its recipes, and what is wrong",
		Long: `status shows at a glance what a host says of itself and of its etcd. With --endpoints
it asks etcd itself. It exits with 6 if etcd does not serve, with 0 if it does, well or
not; conclave doctor says what to do, and exits with 1 if something is wrong.`,
		Example: `  conclave status
  conclave status --api http://a:2378,http://b:2378
  conclave status -o json | jq -r '.problems[].reason'`,
		Args: exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withStatus(cmd.Context(), func(ctx context.Context, t target, look looker) error {
				s, err := look.status(ctx)
				if err != nil {
					return err
				}
				if a.flags.output.value != outputTable {
					err = a.printProto(s)
				} else {
					err = table(a.stdout, statusRows(t, s))
				}
				if err == nil && !s.GetEtcd().GetServing() {
					err = exitError(ExitUnavailable)
				}
				return err
			})
		},
	}
}

// A looker asks for the status: a host, or in its place etcd.
type looker interface {
	status(ctx context.Context) (*hostv1.StatusResponse, error)
}

// withStatus runs work with what can tell the status of the target.
func (a *app) withStatus(ctx context.Context, work func(ctx context.Context, t target, look looker) error) error {
	t, err := a.target()
	if err != nil {
		return err
	}
	ctx, cancel := a.bounded(ctx, answering)
	defer cancel()
	if !t.direct() {
		c, err := a.host(t)
		if err != nil {
			return err
		}
		defer func() { _ = c.Close() }()
		return explain(ctx, t, work(ctx, t, hostLooker{c}))
	}
	c, err := a.dial(ctx, t)
	if err != nil {
		return explain(ctx, t, err)
	}
	defer func() { _ = c.Close() }()
	service := status.New(status.Config{Client: c, Log: slog.New(slog.DiscardHandler), Version: readVersion().Version, Endpoints: t.endpoints,
		Recipes: func() []*hostv1.Recipe { return nil }})
	defer func() { _ = service.Stop(context.WithoutCancel(ctx)) }()
	return explain(ctx, t, work(ctx, t, etcdLooker{service}))
}

type hostLooker struct{ c *remote.Client }

func (l hostLooker) status(ctx context.Context) (resp *hostv1.StatusResponse, err error) {
	err = l.c.Do(ctx, func(cc grpc.ClientConnInterface) (err error) {
		resp, err = hostv1.NewHostServiceClient(cc).Status(ctx, &hostv1.StatusRequest{})
		return err
	})
	return resp, err
}

type etcdLooker struct{ s *status.Service }

func (l etcdLooker) status(ctx context.Context) (*hostv1.StatusResponse, error) {
	return l.s.Status(ctx, &hostv1.StatusRequest{})
}

func statusRows(t target, s *hostv1.StatusResponse) [][]string {
	var rows [][]string
	row := func(cells ...string) { rows = append(rows, cells) }
	if !t.direct() {
		row("host", fmt.Sprintf("%s, conclave %s, up %s", clean(s.GetName()), clean(s.GetVersion()), roughly(s.GetUptime().AsDuration())))
		row("api", t.addresses())
	}
	e := s.GetEtcd()
	row("etcd", etcdText(e))
	row("endpoints", strings.Join(e.GetEndpoints(), ", "))
	if e.GetDbSize() > 0 {
		row("database", databaseText(e))
	}
	row("authentication", authText(e))
	if !t.direct() {
		row("sessions", fmt.Sprint(s.GetSessions()))
	}
	for _, m := range e.GetMembers() {
		row("member", memberText(m))
	}
	for _, r := range s.GetRecipes() {
		v := recipeOf(r)
		text := fmt.Sprintf("%s %s, %s, %s", clean(v.Name), clean(v.Version), v.Mode, v.State)
		if v.Message != "" {
			text += ": " + clean(v.Message)
		}
		row("recipe", text)
	}
	for _, p := range s.GetProblems() {
		row(word(p.GetSeverity().String(), "SEVERITY_"), clean(p.GetText()))
		if p.GetHint() != "" {
			row("", clean(p.GetHint()))
		}
	}
	if len(s.GetProblems()) == 0 {
		row("problems", "none")
	}
	return rows
}

func etcdText(e *hostv1.Etcd) string {
	healthy, leader, learners := 0, "", 0
	for _, m := range e.GetMembers() {
		if m.GetHealthy() {
			healthy++
		}
		if m.GetLearner() {
			learners++
		}
		if m.GetLeader() {
			leader = ", led by " + clean(firstOf(m.GetName(), m.GetId()))
		}
	}
	serves := "serves"
	if !e.GetServing() {
		serves = "does not serve"
	}
	answer := fmt.Sprintf("%d of %d members answer", healthy, len(e.GetMembers()))
	if len(e.GetMembers()) == 0 {
		answer = "its members are unknown"
	}
	if learners > 0 {
		leader += fmt.Sprintf(", %d of them without a vote", learners)
	}
	return fmt.Sprintf("%s, %s, %s%s", word(e.GetMode().String(), "ETCD_MODE_"), serves, answer, leader)
}

// authText is unknown unless etcd answered: then the field is at its default.
func authText(e *hostv1.Etcd) string {
	switch {
	case e.GetAuthEnabled():
		return "on"
	case e.GetServing():
		return "off"
	default:
		return "unknown"
	}
}

func databaseText(e *hostv1.Etcd) string {
	text := fmt.Sprintf("%s, %s of it in use, revision %d", bytesText(e.GetDbSize()), bytesText(e.GetDbSizeInUse()), e.GetRevision())
	if e.GetDbQuota() > 0 {
		text += ", quota " + bytesText(e.GetDbQuota())
	}
	return text
}

func memberText(m *hostv1.Member) string {
	parts := []string{fmt.Sprintf("%s (%s)", clean(firstOf(m.GetName(), "not started")), m.GetId())}
	if m.GetVersion() != "" {
		parts = append(parts, "etcd "+clean(m.GetVersion()))
	}
	if m.GetLeader() {
		parts = append(parts, "leader")
	}
	if m.GetLearner() {
		parts = append(parts, "learner")
	}
	if !m.GetHealthy() {
		parts = append(parts, "does not answer: "+clean(m.GetError()))
	}
	return strings.Join(parts, ", ")
}

// bytesText writes a number of bytes for people.
func bytesText(n int64) string {
	const unit = 1024
	value, units := float64(n), []string{"B", "KiB", "MiB", "GiB", "TiB"}
	for len(units) > 1 && value >= unit {
		value, units = value/unit, units[1:]
	}
	return fmt.Sprintf("%.4g %s", value, units[0])
}

// A finding is what one check of doctor found.
type finding struct {
	Check   string `json:"check"`
	Verdict string `json:"verdict"` // ok, warning, error, skipped
	Text    string `json:"text"`
	Hint    string `json:"hint,omitempty"`
}

const (
	fine    = "ok"
	warned  = "warning"
	failing = "error"
	skipped = "skipped"
)

func (a *app) doctorCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Check everything, and say how to mend what is wrong",
		Long: `doctor looks at how this command reaches its host, at the host, its etcd, and the
clock; it opens and closes a session to see that it can be done. Each line is one
check with its verdict, and how to mend what is wrong. It exits with 1 if a check
failed, with 0 if there are warnings only.`,
		Example: "  conclave doctor\n  conclave doctor -o json | jq '.[] | select(.verdict != \"ok\")'",
		Args:    exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			found, err := a.examine(cmd.Context())
			if err != nil {
				return err
			}
			var rows [][]string
			bad := 0
			for _, f := range found {
				rows = append(rows, []string{f.Verdict, f.Check, clean(f.Text)})
				if f.Hint != "" && f.Verdict != fine {
					rows = append(rows, []string{"", "", "to mend it: " + clean(f.Hint)})
				}
				if f.Verdict == failing {
					bad++
				}
			}
			if err := a.print(found, rows); err != nil {
				return err
			}
			if bad > 0 {
				return exitError(ExitFailed)
			}
			return nil
		},
	}
}

// examine runs every check. What cannot be reached is a finding; the error is one of
// the command line.
func (a *app) examine(ctx context.Context) ([]finding, error) {
	t, err := a.target()
	if err != nil {
		return nil, err
	}
	found := append([]finding{}, a.checkAccess(t)...)
	var s *hostv1.StatusResponse
	var began, ended time.Time
	err = a.withStatus(ctx, func(ctx context.Context, _ target, look looker) (err error) {
		began = time.Now()
		s, err = look.status(ctx)
		ended = time.Now()
		return err
	})
	if err != nil {
		e := describe(err)
		return append(found, finding{"reach", failing, e.Message, e.Hint}), nil
	}
	found = append(found, finding{"reach", fine, fmt.Sprintf("%s answers, in %s", t.addresses(), roughly(ended.Sub(began))), ""})
	if !t.direct() {
		found = append(found, a.checkOthers(ctx, t)...)
		found = append(found, checkVersion(s), checkClock(s, began, ended))
	}
	found = append(found, checkProblems(s, t.direct())...)
	found = append(found, a.checkDisk(t), a.checkSession(ctx, t, s))
	return found, nil
}

// checkSession opens a session and closes it.
func (a *app) checkSession(ctx context.Context, t target, s *hostv1.StatusResponse) finding {
	const check = "session"
	floor := floorOf(s)
	if s.GetEtcd() != nil && !s.GetEtcd().GetServing() {
		return finding{check, skipped, "etcd does not serve", ""}
	}
	ctx, cancel := a.bounded(ctx, opening)
	defer cancel()
	began := time.Now()
	opened, err := a.openSession(ctx, t, defaultTTL)
	if err != nil {
		if e := describe(explain(ctx, t, err)); e.Reason == "not_permitted" {
			return finding{check, skipped, "this identity may not open one", ""}
		} else if !errors.Is(err, context.Canceled) {
			return finding{check, failing, "none can be opened: " + e.Message, e.Hint}
		}
		return finding{check, skipped, "interrupted", ""}
	}
	opened.close()
	return finding{check, fine, fmt.Sprintf("one was opened and closed, in %s; the least --ttl is %s here", roughly(time.Since(began)), short(floor)), ""}
}
