package cli

import (
	"context"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	configv1 "github.com/conclavehq/conclave/api/conclave/config/v1"
)

// publishFlags are those of every command that publishes.
type publishFlags struct {
	ifRevision int64
	message    string
}

func (f *publishFlags) register(cmd *cobra.Command) {
	cmd.Flags().Int64Var(&f.ifRevision, "if-revision", 0, "only if the key has this revision; 0: only if it has no value; else exit code 5")
	cmd.Flags().StringVar(&f.message, "message", "", "why, for the history")
}

// condition is --if-revision, nil if it was not given.
func (f *publishFlags) condition(cmd *cobra.Command) (*int64, error) {
	switch {
	case !cmd.Flags().Changed("if-revision"):
		return nil, nil
	case f.ifRevision < 0:
		return nil, usage("invalid_if-revision", "", "--if-revision: %d is negative", f.ifRevision)
	}
	return &f.ifRevision, nil
}

// published is what became of a publication.
type published struct {
	Key      string `json:"key"`
	Revision int64  `json:"revision"`
	Of       int64  `json:"of,omitempty"` // of a rollback
}

func (a *app) printPublished(p published) error {
	return a.print(p, [][]string{{fmt.Sprint(p.Revision)}})
}

func (a *app) configSetCommand() *cobra.Command {
	var f publishFlags
	cmd := &cobra.Command{
		Use:   "set KEY [VALUE or @FILE]",
		Short: "Publish a value",
		Long: `set publishes VALUE, the content of FILE, or standard input if there is none of both
or VALUE is -. It prints the revision of the new version. Every byte counts, the last
line feed of a file too. A value has 1 byte to 512 KiB; if the key has a schema it must
pass it.`,
		Example: `  conclave config set api/limits '{"rate":100}' --message 'as measured'
  conclave config set banner @banner.txt
  conclave config set api/limits - --if-revision 4211 < limits.json`,
		Args: keyAndOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkKey(args[0]); err != nil {
				return err
			}
			condition, err := f.condition(cmd)
			if err != nil {
				return err
			}
			value, err := a.argument("VALUE", args[1:])
			if err != nil {
				return err
			}
			if len(value) == 0 {
				return usage("invalid_value", "to delete a key: conclave config rm "+quoted(args[0]), "VALUE is empty")
			}
			return a.withKey(cmd.Context(), args[0], answering, func(ctx context.Context, t target, c configs) error {
				req := &configv1.SetRequest{Namespace: a.namespace(t), Key: args[0], IfRevision: condition, Message: f.message, Author: a.author(t)}
				if utf8.Valid(value) {
					req.Value = string(value)
				} else {
					req.Data = value
				}
				resp, err := act(ctx, c, configv1.ConfigServiceClient.Set, req)
				if err != nil {
					return err
				}
				return a.printPublished(published{Key: args[0], Revision: resp.GetRevision()})
			})
		},
	}
	f.register(cmd)
	return cmd
}

// keyAndOne wants KEY and at most one more.
func keyAndOne(cmd *cobra.Command, args []string) error {
	if len(args) > 1 {
		return exactly(2, "KEY")(cmd, args)
	}
	return exactly(1, "KEY")(cmd, args)
}

func (a *app) configRollbackCommand() *cobra.Command {
	var f publishFlags
	var to int64
	cmd := &cobra.Command{
		Use:   "rollback KEY --to REVISION",
		Short: "Publish an old value again",
		Long: `rollback publishes again, as a new version, the value that was in force at a revision,
and prints the new revision. The value must pass the schema that the key has now.`,
		Example: `  conclave config history api/limits
  conclave config rollback api/limits --to 4211 --message 'too fast'`,
		Args: exactly(1, "KEY"),
		RunE: func(cmd *cobra.Command, args []string) error {
			condition, err := f.condition(cmd)
			if err != nil {
				return err
			}
			if to < 1 {
				return usage("invalid_to", "see which there are with: conclave config history "+quoted(args[0]), "--to: a revision is missing")
			}
			return a.withKey(cmd.Context(), args[0], answering, func(ctx context.Context, t target, c configs) error {
				resp, err := act(ctx, c, configv1.ConfigServiceClient.Rollback, &configv1.RollbackRequest{Namespace: a.namespace(t), Key: args[0],
					ToRevision: to, IfRevision: condition, Message: f.message, Author: a.author(t)})
				if err != nil {
					return err
				}
				return a.printPublished(published{Key: args[0], Revision: resp.GetRevision(), Of: resp.GetOfRevision()})
			})
		},
	}
	f.register(cmd)
	cmd.Flags().Int64Var(&to, "to", 0, "the revision at which the value was in force")
	return cmd
}

func (a *app) configRemoveCommand() *cobra.Command {
	var f publishFlags
	cmd := &cobra.Command{
		Use:   "rm KEY",
		Short: "Delete a key by a tombstone",
		Long: `rm publishes a tombstone and prints its revision. Programs that have a default go back
to it, those without one keep their last value. The history stays, and rollback brings
a value back. A key that is deleted by hand, in etcd, has no tombstone: its readers keep
what they had.`,
		Example: `  conclave config rm banner --message 'the sale is over'`,
		Args:    exactly(1, "KEY"),
		RunE: func(cmd *cobra.Command, args []string) error {
			condition, err := f.condition(cmd)
			if err != nil {
				return err
			}
			return a.withKey(cmd.Context(), args[0], answering, func(ctx context.Context, t target, c configs) error {
				resp, err := act(ctx, c, configv1.ConfigServiceClient.Delete, &configv1.DeleteRequest{Namespace: a.namespace(t), Key: args[0],
					IfRevision: condition, Message: f.message, Author: a.author(t)})
				if err != nil {
					return err
				}
				return a.printPublished(published{Key: args[0], Revision: resp.GetRevision()})
			})
		},
	}
	f.register(cmd)
	return cmd
}

func (a *app) configReleaseCommand() *cobra.Command {
	var message string
	var remove []string
	cmd := &cobra.Command{
		Use:   "release KEY=VALUE or KEY=@FILE...",
		Short: "Publish values of several keys together",
		Long: `release publishes up to 32 keys in one transaction: all of them or none. It prints the
revision that they all have. Values are given as for set.`,
		Example: `  conclave config release shop/limits='{"rate":50}' shop/banner=@banner.txt --rm shop/notice --message 'summer sale'`,
		RunE: func(cmd *cobra.Command, args []string) error {
			changes, err := a.changes(args, remove)
			if err != nil {
				return err
			}
			return a.withConfigs(cmd.Context(), answering, func(ctx context.Context, t target, c configs) error {
				resp, err := act(ctx, c, configv1.ConfigServiceClient.Publish, &configv1.PublishRequest{Namespace: a.namespace(t), Changes: changes,
					Message: message, Author: a.author(t)})
				if err != nil {
					return err
				}
				return a.print(released{Revision: resp.GetRevision(), Keys: len(changes)}, [][]string{{fmt.Sprint(resp.GetRevision())}})
			})
		},
	}
	cmd.Flags().StringVar(&message, "message", "", "why, for the history")
	cmd.Flags().StringArrayVar(&remove, "rm", nil, "a key to delete by a tombstone in the same transaction; may be given several times")
	return cmd
}

// released is what became of a release.
type released struct {
	Revision int64 `json:"revision"`
	Keys     int   `json:"keys"`
}

func (a *app) changes(args, remove []string) (changes []*configv1.Change, err error) {
	if len(args)+len(remove) == 0 {
		return nil, usage("invalid_arguments", "such as: conclave config release shop/limits='{\"rate\":50}' shop/banner=@banner.txt", "KEY=VALUE is missing")
	}
	for _, arg := range args {
		key, text, ok := strings.Cut(arg, "=")
		if !ok {
			return nil, usage("invalid_arguments", "", "%q is not KEY=VALUE or KEY=@FILE", arg)
		}
		value, err := a.argument("VALUE", []string{text})
		if err != nil {
			return nil, err
		}
		c := &configv1.Change{Key: key}
		if utf8.Valid(value) {
			c.Value = string(value)
		} else {
			c.Data = value
		}
		changes = append(changes, c)
	}
	for _, key := range remove {
		changes = append(changes, &configv1.Change{Key: key, Delete: true})
	}
	for _, c := range changes {
		if err := checkKey(c.GetKey()); err != nil {
			return nil, err
		}
	}
	return changes, nil
}
