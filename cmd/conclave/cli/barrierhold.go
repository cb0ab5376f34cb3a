package cli

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	barrierv1 "github.com/conclavehq/conclave/api/conclave/barrier/v1"
	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/internal/keyspace"
)

func (a *app) barrierHoldCommand() *cobra.Command {
	f := holding{}
	t := defaultTenure()
	cmd := &cobra.Command{
		Use:   "hold NAME [flags] [-- COMMAND [argument...]]",
		Short: "Close a barrier while this, or a command, runs",
		Long: `hold closes the barrier NAME, prints its name and the token, and keeps it closed until
INT or TERM ends it, or with a command until that has ended, whose exit code comes
through. Many can hold one barrier at a time: it opens when the last of them lets go.
If this machine dies it opens after --ttl. The command is guarded as by conclave lock
run.

With --persistent hold prints and ends, and the barrier stays closed, whatever dies,
until conclave barrier release.

Exit codes of its own: 7 the hold was lost, or somebody opened the barrier.`,
		Example: `  conclave barrier hold maintenance
  conclave barrier hold maintenance --purpose "schema change" -- ./migrate.sh
  conclave barrier hold maintenance --persistent`,
		Args: maybeCommandArgs("conclave barrier hold maintenance -- ./migrate.sh"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkPurpose(f.purpose); err != nil {
				return err
			}
			if f.persistent && len(args) > 1 {
				return usage("invalid_persistent", "leave out one of the two", "--persistent outlives the command: they exclude each other")
			}
			return a.barrierHold(cmd.Context(), args[0], args[1:], f, t)
		},
	}
	fs := cmd.Flags()
	fs.BoolVar(&f.persistent, "persistent", false, "stay closed until conclave barrier release, whatever dies")
	fs.BoolVar(&f.breaks, "break-on-loss", false, "if this dies, those who wait are told that the barrier broke")
	fs.StringVar(&f.purpose, "purpose", "", "what for, shown to others")
	t.register(cmd)
	return cmd
}

func (a *app) barrierHold(ctx context.Context, name string, argv []string, f holding, t tenure) error {
	j, err := a.newJob("barrier", name, argv, t)
	if err != nil {
		return err
	}
	j.own = func(ctx context.Context, s session) (*owned, error) {
		o, err := s.hold(ctx, name, f)
		if err == nil && f.persistent {
			o.release = func() error { return nil } // whose session ends, and nothing else
		}
		return o, err
	}
	j.refused = func(error) *Error { return nil }
	if len(argv) == 0 {
		j.held = func(o *owned) error { return a.printHold(name, o.token, f.persistent) }
	}
	j.stays = !f.persistent
	defer j.listen()()
	return j.run(ctx).err
}

// printHold tells that the barrier is held: programs wait for it.
func (a *app) printHold(name string, token core.Token, persistent bool) error {
	doc := struct {
		Name       string `json:"name"`
		Token      string `json:"token"`
		Persistent bool   `json:"persistent"`
	}{name, tokenText(int64(token)), persistent}
	err := a.print(doc, [][]string{{clean(name), doc.Token}})
	if err == nil && !persistent && isTerminal(a.stdout) {
		a.note(fmt.Sprintf("barrier %q: held until this ends, with Ctrl-C", name))
	}
	return err
}

type openFlags struct {
	token int64
	force bool
}

func (a *app) barrierReleaseCommand() *cobra.Command {
	f := openFlags{}
	cmd := &cobra.Command{
		Use:   "release NAME",
		Short: "Open a barrier that is held persistently",
		Long: `release lets go of all persistent holds of NAME, or of the one with --token. While
others hold it too, with a process that lives, it does nothing and exits with 5: end
those, or take all holds away with --force, which their processes do not expect. It
prints how many holds it took. Nobody holds it: exit code 3.`,
		Example: `  conclave barrier release maintenance
  conclave barrier release maintenance --force   # also from those who hold it by a process`,
		Args: exactly(1, "NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.token < 0 {
				return usage("invalid_token", "", "--token: %d is negative", f.token)
			}
			if f.force && f.token != 0 {
				return usage("invalid_token", "give one of the two", "--force takes all holds: it excludes --token")
			}
			return a.withBarrier(cmd.Context(), args[0], answering, func(ctx context.Context, t target, b barriers) error {
				n, err := a.barrierRelease(ctx, t, b, args[0], f)
				if err != nil {
					return err
				}
				return a.print(map[string]any{"name": args[0], "released": n}, [][]string{{strconv.Itoa(n)}})
			})
		},
	}
	cmd.Flags().BoolVar(&f.force, "force", false, "take all holds away, whoever has them")
	cmd.Flags().Int64Var(&f.token, "token", 0, "only the hold with this token")
	return cmd
}

// barrierRelease returns how many holds it took.
func (a *app) barrierRelease(ctx context.Context, t target, b barriers, name string, f openFlags) (int, error) {
	if f.force {
		resp, err := act(ctx, b, barrierv1.BarrierServiceClient.Open, &barrierv1.OpenRequest{Namespace: a.namespace(t), Name: name})
		if err == nil && resp.GetOpened() == 0 {
			err = notHeld(name)
		}
		return int(resp.GetOpened()), err
	}
	tokens, err := a.persistentHolds(ctx, t, b, name, f.token)
	if err != nil {
		return 0, err
	}
	s, err := a.openSession(ctx, t, defaultTTL)
	if err != nil {
		return 0, err
	}
	defer s.close()
	for i, token := range tokens {
		if err := s.releaseHold(ctx, name, token); err != nil {
			return i, err
		}
	}
	return len(tokens), nil
}

// persistentHolds returns the tokens of those of name that are to be released.
func (a *app) persistentHolds(ctx context.Context, t target, b barriers, name string, only int64) ([]int64, error) {
	all, err := allBarriers(ctx, b, a.namespace(t), name)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(all, func(s *barrierv1.State) bool {
		return s.GetName() == name && s.GetKind() == barrierv1.Kind_KIND_BARRIER
	})
	if i < 0 {
		return nil, notHeld(name)
	}
	var tokens []int64
	for _, p := range all[i].GetMembers() {
		switch {
		case p.GetToken() == 0, only != 0 && p.GetToken() != only:
		case p.GetPersistent():
			tokens = append(tokens, p.GetToken())
		default:
			return nil, &Error{Exit: ExitNotAcquired, Code: "aborted", Reason: "locked",
				Message: fmt.Sprintf("barrier %q: %s holds it with a process that lives", name, clean(p.GetOwner())),
				Hint:    fmt.Sprintf("end that, or: conclave barrier release %s --force%s", quoted(name), a.sameTarget(t))}
		}
	}
	if len(tokens) == 0 {
		return nil, notHeld(name)
	}
	return tokens, nil
}

func notHeld(name string) *Error {
	return &Error{Exit: ExitNotFound, Code: "not_found", Reason: "not_found", Message: fmt.Sprintf("barrier %q: there is no such hold", name),
		Hint: "see who holds what with: conclave barrier ls"}
}

func checkPurpose(text string) error {
	if err := keyspace.CheckText("--purpose", text, maxPurpose); err != nil {
		return usage("invalid_purpose", "", "%s", err)
	}
	return nil
}
