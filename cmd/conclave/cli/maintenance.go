package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/internal/upkeep"
)

type maintenanceFlags struct {
	user, passwordFile string
	all                bool
}

func (a *app) maintenanceCommand() *cobra.Command {
	var f maintenanceFlags
	cmd := group(&cobra.Command{
		Use:   "maintenance",
		Short: "Look after etcd's databases: space, defragmentation, a full store",
		Long: `maintenance does by hand, for any etcd, what hosts do by themselves for their embedded
members: hosts compact what is older than an hour, defragment members that are half
empty one after the other, and make room when etcd has reached its quota.`,
		Example: `  conclave maintenance status           # how much of its quota each member uses
  conclave maintenance defrag           # give back what is not used, member after member
  conclave maintenance recover          # etcd takes no writes any more: make room`,
	})
	cmd.PersistentFlags().StringVar(&f.user, "user", "", "etcd's user, with the role root, if its authentication is on")
	cmd.PersistentFlags().StringVar(&f.passwordFile, "password-file", "", "file that holds the user's password")
	status := &cobra.Command{
		Use: "status", Short: "Show how much of its quota each member uses", Args: exactly(0, ""),
		Example: "  conclave maintenance status",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.maintenance(cmd.Context(), f, a.maintenanceStatus)
		},
	}
	defrag := &cobra.Command{
		Use: "defrag", Short: "Defragment members, one after the other", Args: exactly(0, ""),
		Long: `defrag gives back what the members' databases do not use: those that are half empty and
larger than 256 MiB, or all of them with --all. A member that is at it answers nothing,
for about a second for every few hundred megabytes; the others go on. The leader comes
last, and hands over before. Nothing is done while a member is down. If one fails, those
that were done before it are printed all the same.`,
		Example: `  conclave maintenance defrag
  conclave maintenance defrag --all`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.maintenance(cmd.Context(), f, func(ctx context.Context, m *upkeepRun) error { return m.defrag(ctx, f.all) })
		},
	}
	defrag.Flags().BoolVar(&f.all, "all", false, "also those that would give back little")
	makeRoom := &cobra.Command{
		Use: "recover", Short: "Make room in an etcd that has reached its quota", Args: exactly(0, ""),
		Long: `recover compacts everything but the latest revision of each key, defragments member
after member, and ends the alarm by which etcd refuses writes. Former versions of keys
are gone then. It ends with what conclave maintenance status says, or with a list of no
members and a note if that cannot be read. If there is too little room even so it says
that, and exits with 5.`,
		Example: "  conclave maintenance recover",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.maintenance(cmd.Context(), f, a.maintenanceRecover)
		},
	}
	cmd.AddCommand(status, defrag, makeRoom)
	return cmd
}

// An upkeepRun is one run of a command of maintenance.
type upkeepRun struct {
	app    *app
	target target
	as     login
	client *clientv3.Client
}

func (a *app) maintenance(ctx context.Context, f maintenanceFlags, do func(context.Context, *upkeepRun) error) error {
	t, err := a.etcdItself("maintenance")
	if err != nil {
		return err
	}
	as, err := readLogin(f.user, f.passwordFile)
	if err != nil {
		return err
	}
	ctx, cancel := a.bounded(ctx, 0)
	defer cancel()
	c, err := a.dialAs(ctx, t, as)
	if err != nil {
		return explain(ctx, t, err)
	}
	defer func() { _ = c.Close() }()
	if err := do(ctx, &upkeepRun{a, t, as, c}); err != nil {
		if errors.Is(err, upkeep.ErrDown) {
			return &Error{Exit: ExitUnavailable, Code: "unavailable", Reason: "member_down", Message: oneLine(err), Hint: "start it, or replace it", cause: err}
		}
		return explain(ctx, t, err)
	}
	return nil
}

type spaceDoc struct {
	Member  string `json:"member"`
	Leader  bool   `json:"leader"`
	Learner bool   `json:"learner"`
	Size    int64  `json:"size"`
	InUse   int64  `json:"in_use"`
	Quota   int64  `json:"quota"`
	NoSpace bool   `json:"no_space"`
	Hollow  bool   `json:"hollow"`
	Error   string `json:"error,omitempty"`
}

func (a *app) maintenanceStatus(ctx context.Context, m *upkeepRun) error {
	members, err := upkeep.Look(ctx, m.client)
	if err != nil {
		return err
	}
	return a.printSpace(members)
}

func (a *app) printSpace(members []upkeep.Member) error {
	docs, rows := []spaceDoc{}, [][]string{}
	for _, s := range members {
		d := spaceDoc{Member: s.Name, Leader: s.Leader, Learner: s.Learner, Size: s.Size, InUse: s.InUse, Quota: s.Quota, NoSpace: s.NoSpace, Hollow: s.Hollow()}
		state := "fine"
		switch {
		case s.Err != nil:
			d.Error = oneLine(s.Err)
			state = d.Error
		case s.NoSpace:
			state = "full: run conclave maintenance recover"
		case s.Hollow():
			state = "half empty: run conclave maintenance defrag"
		}
		docs = append(docs, d)
		rows = append(rows, []string{d.Member, bytesOf(d.Size), bytesOf(d.InUse), bytesOf(d.Quota), state})
	}
	return a.printList(docs, []string{"MEMBER", "SIZE", "IN USE", "QUOTA", "STATE"}, rows)
}

func bytesOf(n int64) string { return humanize.IBytes(uint64(max(n, 0))) }

// A defragDoc is a member that was defragmented.
type defragDoc struct {
	Member string `json:"member"`
	Before int64  `json:"before"`
	Size   int64  `json:"size"`
}

func (m *upkeepRun) defrag(ctx context.Context, all bool) error {
	members, err := upkeep.Look(ctx, m.client)
	if err != nil {
		return err
	}
	return m.defragEach(ctx, members, all)
}

// defragEach prints what it has done also when it fails.
func (m *upkeepRun) defragEach(ctx context.Context, members []upkeep.Member, all bool) error {
	var failed error
	docs, rows := []defragDoc{}, [][]string{}
	for _, s := range members {
		if !all && !s.Hollow() {
			continue
		}
		var after upkeep.Member
		if after, failed = m.defragOne(ctx, s, members); failed != nil {
			break
		}
		docs = append(docs, defragDoc{s.Name, s.Size, after.Size})
		rows = append(rows, []string{s.Name, bytesOf(s.Size), bytesOf(after.Size)})
	}
	switch {
	case len(docs) == 0 && failed != nil:
		return failed
	case len(docs) == 0:
		m.app.note("nothing to do: no member's database is half empty and larger than 256 MiB; see --all")
	}
	if err := m.app.printList(docs, []string{"MEMBER", "BEFORE", "SIZE"}, rows); failed == nil {
		return err
	}
	return failed
}

func (m *upkeepRun) defragOne(ctx context.Context, s upkeep.Member, members []upkeep.Member) (upkeep.Member, error) {
	if s.Leader {
		if err := m.moveLeader(ctx, s, members); err != nil {
			return s, err
		}
	}
	m.app.note("member " + s.Name + " is defragmented and does not answer meanwhile")
	return upkeep.Defragment(ctx, m.client, s)
}

// moveLeader has another member lead, if there is one. Only the leader itself can
// be asked for that.
func (m *upkeepRun) moveLeader(ctx context.Context, leader upkeep.Member, members []upkeep.Member) error {
	next := slices.IndexFunc(members, func(m upkeep.Member) bool { return !m.Leader && !m.Learner && m.Err == nil })
	if next < 0 {
		return nil
	}
	c, err := m.app.dialAs(ctx, target{endpoints: []string{leader.Endpoint}, from: m.target.from}, m.as)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	if _, err := c.MoveLeader(ctx, members[next].ID); err != nil {
		return fmt.Errorf("hand the leadership over to %s: %w", members[next].Name, err)
	}
	m.app.note("member " + members[next].Name + " leads")
	return nil
}

func (a *app) maintenanceRecover(ctx context.Context, m *upkeepRun) error {
	err := upkeep.Recover(ctx, m.client, a.note)
	if errors.Is(err, upkeep.ErrFull) {
		return &Error{Exit: ExitNotAcquired, Code: "resource_exhausted", Reason: "no_space", Message: oneLine(err),
			Hint: "see conclave etcdctl get --prefix / --keys-only; the quota is etcd.quota_bytes", cause: err}
	}
	if err != nil {
		return err
	}
	members, err := upkeep.Look(ctx, m.client)
	if err != nil { // what was asked for is done
		a.note("etcd has recovered; its status could not be read: " + oneLine(err))
	}
	return a.printSpace(members)
}
