package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
	"sigs.k8s.io/yaml"

	lockv1 "github.com/conclavehq/conclave/api/conclave/lock/v1"
	"github.com/conclavehq/conclave/internal/keyspace"
)

func (a *app) lockWhyCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "why NAME",
		Short: "Explain who holds a lock, who waits, and what can be done",
		Long: `why says who holds NAME, since when and what for, how long that lasts if the holder
is gone, who waits in what order, and whether they wait in a circle. Its last line is
what can be done about it.`,
		Example: `  conclave lock why nightly
  conclave lock why nightly -o json | jq -r '.holders[].owner'`,
		Args: exactly(1, "NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := keyspace.CheckName("name", args[0]); err != nil {
				return usage("invalid_name", "", "%s", err)
			}
			return a.withLocks(cmd.Context(), func(ctx context.Context, t target, l locks) error {
				resp, err := ask(ctx, l, lockv1.LockServiceClient.Why, &lockv1.WhyRequest{Namespace: a.namespace(t), Name: args[0]})
				if err != nil {
					return err
				}
				if a.flags.output.value != outputTable {
					return a.printProto(resp)
				}
				_, err = io.WriteString(a.stdout, a.why(resp, t, time.Now()))
				return err
			})
		},
	}
}

// printProto writes a message as the API's JSON has it.
func (a *app) printProto(m proto.Message) error {
	b, err := protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(m)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	if a.flags.output.value == outputYAML {
		y, err := yaml.JSONToYAML(b)
		if err != nil {
			return err
		}
		out.Write(y)
	} else {
		// protojson varies its white space from build to build.
		if err := json.Compact(&out, b); err != nil {
			return err
		}
		out.WriteByte('\n')
	}
	_, err = a.stdout.Write(out.Bytes())
	return err
}

// why is the answer in words.
func (a *app) why(w *lockv1.WhyResponse, t target, now time.Time) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	name := clean(w.GetName())
	switch n := len(w.GetHolders()); {
	case n == 0 && w.GetDelayed():
		line("%s is held by nobody: its last owner died, and its lock delay runs", name)
	case n == 0 && len(w.GetWaiters()) == 0:
		line("%s is free: nobody holds it and nobody waits for it", name)
		line("its past: conclave lock history %s", quoted(w.GetName()))
		return b.String()
	case n == 0:
		line("%s is held by nobody, and %d wait: the first in line takes it in a moment", name, len(w.GetWaiters()))
	case n == 1 && w.GetLimit() > 0:
		line("%s is held by %s, with %d of %d permits taken", name, clean(w.GetHolders()[0].GetOwner()), w.GetTaken(), w.GetLimit())
	case w.GetLimit() > 0:
		line("%s is held by %d owners, with %d of %d permits taken", name, n, w.GetTaken(), w.GetLimit())
	case n > 1:
		line("%s is shared by %d readers", name, n)
	default:
		line("%s is held by %s", name, clean(w.GetHolders()[0].GetOwner()))
	}
	for _, h := range w.GetHolders() {
		holderLines(line, h, now, len(w.GetHolders()) > 1)
	}
	if len(w.GetWaiters()) > 0 {
		line("")
		line("waiting, the next one first:")
		for i, x := range w.GetWaiters() {
			line("%4d. %s, %s%s%s", i+1, clean(x.GetOwner()), modeText(x.GetMode(), x.GetPermits()), forText(x.GetPurpose()), sinceText(x.GetSince(), now))
		}
	}
	deadlockLines(line, w)
	if len(w.GetHolders()) > 0 {
		line("")
		line("if the holder is gone, the lock is free by itself when its session ends; if it hangs, end it, or take the lock away:")
		line("  conclave lock release %s --force --reason '...'%s", quoted(w.GetName()), a.sameTarget(t))
	}
	return b.String()
}

func holderLines(line func(string, ...any), h *lockv1.Holder, now time.Time, several bool) {
	indent := "  "
	if several {
		line("  %s", clean(h.GetOwner()))
		indent = "    "
	}
	line("%smode      %s, token %d", indent, modeText(h.GetMode(), h.GetPermits()), h.GetToken())
	if h.GetPurpose() != "" {
		line("%spurpose   %s", indent, clean(h.GetPurpose()))
	}
	if h.GetSince() != nil {
		line("%ssince     %s, %s", indent, h.GetSince().AsTime().Format(time.RFC3339), ago(now.Sub(h.GetSince().AsTime())))
	}
	if h.GetPid() != 0 || h.GetHost() != "" {
		line("%sasked by  process %d on %s", indent, h.GetPid(), clean(h.GetHost()))
	}
	if h.GetTtl() != nil {
		line("%slives     %s more without a renewal (lease %x)", indent, roughly(h.GetTtl().AsDuration()), h.GetLease())
	}
	if r := h.GetRevocation(); r != nil {
		line("%srevoked   by %s: %s; it has %s to end", indent, clean(r.GetBy()), clean(r.GetReason()), roughly(r.GetGrace().AsDuration()))
	}
}

func deadlockLines(line func(string, ...any), w *lockv1.WhyResponse) {
	if len(w.GetDeadlock()) == 0 {
		return
	}
	line("")
	line("deadlock: they wait in a circle, and none of them can go on")
	for _, d := range w.GetDeadlock() {
		how := "stands ahead in the line"
		if d.GetHolds() {
			how = "holds it"
		}
		line("  %s (lease %x) waits for %s; %s (lease %x) %s", clean(d.GetWaiter()), d.GetWaiterLease(), clean(d.GetName()),
			clean(d.GetBlocker()), d.GetBlockerLease(), how)
	}
}

func modeText(mode string, permits int32) string {
	switch {
	case permits == 1:
		return "1 permit"
	case permits > 1:
		return fmt.Sprintf("%d permits", permits)
	}
	return mode
}

func forText(purpose string) string {
	if purpose == "" {
		return ""
	}
	return ", for " + clean(purpose)
}

func sinceText(since *timestamppb.Timestamp, now time.Time) string {
	if since == nil {
		return ""
	}
	return ", since " + roughly(now.Sub(since.AsTime()))
}

// sameTarget is what has to be typed to reach the same locks again, beside what the
// environment and the context say.
func (a *app) sameTarget(t target) string {
	var out string
	if t.from == "--api" {
		out += " --api " + quoted(strings.Join(t.api, ","))
	}
	if t.from == "--endpoints" {
		out += " --endpoints " + quoted(strings.Join(t.endpoints, ","))
	}
	if a.flags.namespace != "" {
		out += " --namespace " + quoted(a.flags.namespace)
	}
	return out
}

func (a *app) lockReleaseCommand() *cobra.Command {
	f := forceFlags{
		noun: "lock", again: "conclave lock release %s --force --reason '...'",
		needs: "belongs to its holder: to take it away needs --force", reader: "the holder",
	}
	cmd := &cobra.Command{
		Use:   "release NAME --force --reason TEXT",
		Short: "Take a lock from whoever holds it",
		Long: `release tells each holder of NAME that its ownership is revoked, and why, leaves it
its grace (at most 10s), and passes the lock to the first in line. It prints the
token that was revoked.

A holder that does not listen goes on: only a check of the token by the resource
itself protects from it. Who holds a lock lets it go by itself when its work ends,
so this is for an operator, and needs --force.`,
		Example: `  conclave lock release nightly --force --reason "stuck since 3 a.m., see INC-42"
  conclave lock release nightly --force --reason stuck --token 4718592   # only this ownership`,
		Args: exactly(1, "NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(args[0]); err != nil {
				return err
			}
			return a.withLocks(cmd.Context(), func(ctx context.Context, t target, l locks) error {
				resp, err := act(ctx, l, lockv1.LockServiceClient.ForceRelease, &lockv1.ForceReleaseRequest{
					Namespace: a.namespace(t), Name: args[0], Reason: f.reason, Token: f.token, By: a.operator(t),
				})
				if err != nil {
					return err
				}
				if resp.GetToken() == 0 {
					return nobodyHolds(args[0])
				}
				return a.printRevoked(args[0], resp.GetToken())
			})
		},
	}
	f.register(cmd)
	return cmd
}
