package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	configv1 "github.com/conclavehq/conclave/api/conclave/config/v1"
)

func (a *app) configRolloutCommand() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "rollout",
		Short: "Let some instances try a value before all get it",
		Long: `rollout gives a value to a share of the instances of a program first, or to those with
some labels. Instances are programs that take part, with the Go library. One that does
not accept the value, or does not do well with it, refuses it: then all go back. What
runs where is shown by: conclave config status KEY.`,
		Example: `  conclave config rollout start api/limits '{"rate":200}' --percent 10 --message 'twice as much'
  conclave config status api/limits
  conclave config rollout scope api/limits --percent 50
  conclave config rollout promote api/limits`,
	})
	cmd.AddCommand(a.rolloutStartCommand(), a.rolloutScopeCommand(), a.rolloutPromoteCommand(), a.rolloutAbortCommand())
	return cmd
}

// scopeFlags say which instances are meant.
type scopeFlags struct {
	percent float64
	labels  map[string]string
}

func (f *scopeFlags) register(cmd *cobra.Command) {
	cmd.Flags().Float64Var(&f.percent, "percent", 100, "share of the instances, more than 0 and at most 100")
	cmd.Flags().StringToStringVar(&f.labels, "label", nil, "only instances with this label, NAME=VALUE; may be given several times")
}

func (f *scopeFlags) check() error {
	if !(f.percent > 0 && f.percent <= 100) {
		return usage("invalid_percent", "", "--percent: %v is not more than 0 and at most 100", f.percent)
	}
	return nil
}

func (a *app) rolloutStartCommand() *cobra.Command {
	var f publishFlags
	var scope scopeFlags
	cmd := &cobra.Command{
		Use:   "start KEY [VALUE or @FILE]",
		Short: "Let some instances try a value",
		Long: `start gives a value, as set takes it, to the instances that are chosen, and prints the
revision that names the rollout. It takes the place of a rollout before. A version that
anybody publishes meanwhile ends it.`,
		Example: `  conclave config rollout start api/limits '{"rate":200}' --percent 10
  conclave config rollout start api/limits @limits.json --label zone=a --message 'zone a first'`,
		Args: keyAndOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			condition, err := f.condition(cmd)
			if err == nil {
				err = scope.check()
			}
			if err == nil {
				err = checkKey(args[0])
			}
			if err != nil {
				return err
			}
			value, err := a.argument("VALUE", args[1:])
			if err != nil {
				return err
			}
			return a.withKey(cmd.Context(), args[0], answering, func(ctx context.Context, t target, c configs) error {
				req := &configv1.StartRolloutRequest{Namespace: a.namespace(t), Key: args[0], IfRevision: condition, Percent: scope.percent,
					Labels: scope.labels, Message: f.message, Author: a.author(t)}
				if utf8.Valid(value) {
					req.Value = string(value)
				} else {
					req.Data = value
				}
				resp, err := act(ctx, c, configv1.ConfigServiceClient.StartRollout, req)
				if err != nil {
					return err
				}
				return a.printPublished(published{Key: args[0], Revision: resp.GetRevision()})
			})
		},
	}
	f.register(cmd)
	scope.register(cmd)
	return cmd
}

func (a *app) rolloutScopeCommand() *cobra.Command {
	var scope scopeFlags
	cmd := &cobra.Command{
		Use:   "scope KEY",
		Short: "Change which instances try the value",
		Long: `scope changes which instances try the value of the rollout that runs. A larger share has
all the instances of a smaller one.`,
		Example: `  conclave config rollout scope api/limits --percent 50`,
		Args:    exactly(1, "KEY"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := scope.check(); err != nil {
				return err
			}
			return a.withKey(cmd.Context(), args[0], answering, func(ctx context.Context, t target, c configs) error {
				_, err := ask(ctx, c, configv1.ConfigServiceClient.ScopeRollout, &configv1.ScopeRolloutRequest{Namespace: a.namespace(t), Key: args[0],
					Percent: scope.percent, Labels: scope.labels})
				return err
			})
		},
	}
	scope.register(cmd)
	return cmd
}

func (a *app) rolloutPromoteCommand() *cobra.Command {
	var revision int64
	var message string
	cmd := &cobra.Command{
		Use:   "promote KEY",
		Short: "Publish the value for all",
		Long: `promote publishes the value of the rollout that runs as a version for all, and prints
its revision. --revision makes sure that it is the rollout that was meant.`,
		Example: `  conclave config rollout promote api/limits`,
		Args:    exactly(1, "KEY"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withKey(cmd.Context(), args[0], answering, func(ctx context.Context, t target, c configs) error {
				resp, err := act(ctx, c, configv1.ConfigServiceClient.PromoteRollout, &configv1.PromoteRolloutRequest{Namespace: a.namespace(t), Key: args[0],
					Revision: revision, Message: message, Author: a.author(t)})
				if err != nil {
					return err
				}
				return a.printPublished(published{Key: args[0], Revision: resp.GetRevision()})
			})
		},
	}
	cmd.Flags().Int64Var(&revision, "revision", 0, "the rollout that is meant; 0: the one that runs")
	cmd.Flags().StringVar(&message, "message", "", "why, for the history; by default the rollout's")
	return cmd
}

func (a *app) rolloutAbortCommand() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:     "abort KEY --reason TEXT",
		Short:   "Take the value back",
		Long:    `abort ends the rollout that runs: all instances go back to the version that the others have.`,
		Example: `  conclave config rollout abort api/limits --reason 'errors in zone a'`,
		Args:    exactly(1, "KEY"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if reason == "" {
				return usage("invalid_reason", "others will ask", "--reason is missing")
			}
			return a.withKey(cmd.Context(), args[0], answering, func(ctx context.Context, t target, c configs) error {
				_, err := ask(ctx, c, configv1.ConfigServiceClient.AbortRollout, &configv1.AbortRolloutRequest{Namespace: a.namespace(t), Key: args[0],
					Reason: reason, Author: a.author(t)})
				return err
			})
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why")
	return cmd
}

// statusView is what `config status` prints.
type statusView struct {
	Key       string             `json:"key"`
	Revision  int64              `json:"revision"`
	Rollout   *rolloutView       `json:"rollout"`
	Instances []configInstanceOf `json:"instances"`
}

type rolloutView struct {
	Revision  int64             `json:"revision"`
	State     string            `json:"state"`
	Percent   float64           `json:"percent"`
	Labels    map[string]string `json:"labels"`
	RefusedBy string            `json:"refusedBy,omitempty"`
	Reason    string            `json:"reason,omitempty"`
	Author    string            `json:"author"`
	Message   string            `json:"message"`
	Time      *time.Time        `json:"time"`
}

type configInstanceOf struct {
	ID               string            `json:"id"`
	Revision         int64             `json:"revision"`
	Runs             string            `json:"runs"` // present, candidate, default or other
	Labels           map[string]string `json:"labels"`
	Rejected         string            `json:"rejected,omitempty"`
	RejectedRevision int64             `json:"rejectedRevision,omitempty"`
	Time             *time.Time        `json:"time"`
}

func (a *app) configStatusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status KEY",
		Short: "Show which instances run which version",
		Long: `status shows what the instances say that they run of KEY: those programs that take part,
with the Go library. The columns are instance, revision, what that is (present,
candidate of the rollout, default, other), labels, and why it does not run what was
published last.`,
		Example: `  conclave config status api/limits
  conclave config status api/limits -o json | jq '.instances | group_by(.runs) | map({(.[0].runs): length}) | add'`,
		Args: exactly(1, "KEY"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withKey(cmd.Context(), args[0], answering, func(ctx context.Context, t target, c configs) error {
				resp, err := ask(ctx, c, configv1.ConfigServiceClient.Status, &configv1.StatusRequest{Namespace: a.namespace(t), Key: args[0]})
				if err != nil {
					return err
				}
				return a.printConfigStatus(args[0], resp)
			})
		},
	}
}

func (a *app) printConfigStatus(key string, resp *configv1.StatusResponse) error {
	view := statusView{Key: key, Revision: resp.GetRevision(), Instances: []configInstanceOf{}}
	if r := resp.GetRollout(); r != nil {
		view.Rollout = &rolloutView{Revision: r.GetRevision(), State: r.GetState(), Percent: r.GetPercent(), Labels: r.GetLabels(), RefusedBy: r.GetRefusedBy(),
			Reason: r.GetReason(), Author: r.GetAuthor(), Message: r.GetMessage(), Time: timeOf(r.GetTime())}
		if a.flags.output.value == outputTable {
			a.note(rolloutLine(r))
		}
	}
	var rows [][]string
	for _, i := range resp.GetInstances() {
		runs := runsOf(i, resp.GetRevision())
		view.Instances = append(view.Instances, configInstanceOf{ID: i.GetId(), Revision: i.GetRevision(), Runs: runs, Labels: i.GetLabels(),
			Rejected: i.GetRejected(), RejectedRevision: i.GetRejectedRevision(), Time: timeOf(i.GetTime())})
		rows = append(rows, []string{clean(i.GetId()), strconv.FormatInt(i.GetRevision(), 10), runs, clean(labelsText(i.GetLabels())), clean(i.GetRejected())})
	}
	return a.printList(view, []string{"INSTANCE", "REVISION", "RUNS", "LABELS", "REJECTED"}, rows)
}

func runsOf(i *configv1.Instance, present int64) string {
	switch {
	case i.GetCandidate():
		return "candidate"
	case i.GetRevision() == 0:
		return "default"
	case i.GetRevision() == present:
		return "present"
	}
	return "other"
}

// rolloutLine says how a rollout stands.
func rolloutLine(r *configv1.Rollout) string {
	line := fmt.Sprintf("rollout %d by %s: %s, for %s %%", r.GetRevision(), clean(r.GetAuthor()), r.GetState(), strconv.FormatFloat(r.GetPercent(), 'f', -1, 64))
	if len(r.GetLabels()) > 0 {
		line += " of " + clean(labelsText(r.GetLabels()))
	}
	if r.GetRefusedBy() != "" {
		line += fmt.Sprintf("; refused by %s: %s", clean(r.GetRefusedBy()), clean(r.GetReason()))
	}
	return line
}

func labelsText(labels map[string]string) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		parts = append(parts, k+"="+labels[k])
	}
	return strings.Join(parts, ",")
}
