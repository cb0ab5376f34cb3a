package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	configv1 "github.com/conclavehq/conclave/api/conclave/config/v1"
)

func (a *app) configSchemaCommand() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "schema",
		Short: "Check values against a JSON Schema before they are published",
		Example: `  conclave config schema set api/limits @limits.schema.json
  conclave config schema get api/limits`,
	})
	cmd.AddCommand(a.schemaSetCommand(), a.schemaGetCommand(), a.schemaRemoveCommand())
	return cmd
}

func (a *app) schemaSetCommand() *cobra.Command {
	var message string
	cmd := &cobra.Command{
		Use:   "set KEY [SCHEMA or @FILE]",
		Short: "Give a key a JSON Schema",
		Long: `set gives KEY a JSON Schema: the text, the content of FILE, or standard input. From then
on hosts, and this command line, publish only values that pass it. A program that uses
the Go library writes past it and checks with its own means. It prints the schema's
revision, and says so if the present value does not pass; that one stays.`,
		Example: `  conclave config schema set api/limits '{"type":"object","required":["rate"]}'
  conclave config schema set api/limits @limits.schema.json --message 'rate is required'`,
		Args: keyAndOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkKey(args[0]); err != nil {
				return err
			}
			schema, err := a.argument("SCHEMA", args[1:])
			if err != nil {
				return err
			}
			return a.withKey(cmd.Context(), args[0], answering, func(ctx context.Context, t target, c configs) error {
				resp, err := ask(ctx, c, configv1.ConfigServiceClient.SetSchema, &configv1.SetSchemaRequest{Namespace: a.namespace(t), Key: args[0],
					Schema: string(schema), Message: message, Author: a.author(t)})
				if err != nil {
					return err
				}
				if why := resp.GetPresentFails(); why != "" {
					a.note(fmt.Sprintf("config %q: the present value %s", args[0], why))
				}
				return a.printPublished(published{Key: args[0], Revision: resp.GetRevision()})
			})
		},
	}
	cmd.Flags().StringVar(&message, "message", "", "why")
	return cmd
}

// schemaView is a schema as `config schema get -o json` prints it.
type schemaView struct {
	Key      string     `json:"key"`
	Schema   string     `json:"schema"`
	Revision int64      `json:"revision"`
	Author   string     `json:"author"`
	Message  string     `json:"message"`
	Time     *time.Time `json:"time"`
}

func (a *app) schemaGetCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "get KEY",
		Short:   "Print the JSON Schema of a key",
		Example: `  conclave config schema get api/limits > limits.schema.json`,
		Args:    exactly(1, "KEY"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withKey(cmd.Context(), args[0], answering, func(ctx context.Context, t target, c configs) error {
				s, err := ask(ctx, c, configv1.ConfigServiceClient.GetSchema, &configv1.GetSchemaRequest{Namespace: a.namespace(t), Key: args[0]})
				if err != nil {
					e := describe(err)
					if e.Reason == "not_found" {
						e.Message, e.Hint = fmt.Sprintf("config %q: has no schema", args[0]), "set one with: conclave config schema set "+quoted(args[0])+" @FILE"
					}
					return e
				}
				if a.flags.output.value != outputTable {
					return a.print(schemaView{Key: s.GetKey(), Schema: s.GetSchema(), Revision: s.GetRevision(), Author: s.GetAuthor(),
						Message: s.GetMessage(), Time: timeOf(s.GetTime())}, nil)
				}
				return a.printValue([]byte(s.GetSchema()))
			})
		},
	}
}

func (a *app) schemaRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "rm KEY",
		Short:   "Take the JSON Schema of a key away",
		Example: `  conclave config schema rm api/limits`,
		Args:    exactly(1, "KEY"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withKey(cmd.Context(), args[0], answering, func(ctx context.Context, t target, c configs) error {
				_, err := ask(ctx, c, configv1.ConfigServiceClient.DeleteSchema, &configv1.DeleteSchemaRequest{Namespace: a.namespace(t), Key: args[0]})
				return err
			})
		},
	}
}
