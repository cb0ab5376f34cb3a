package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/conclavehq/conclave/internal/suggest"
)

// didYouMean returns a hint if typed is close to one of known, which are shown
// with the prefix before them.
func didYouMean(typed string, known []string, prefix string) string {
	best := suggest.Closest(typed, known)
	if best == "" {
		return ""
	}
	return fmt.Sprintf("did you mean %q?", prefix+best)
}

// unknownCommand is the error for a word that is no command of parent.
func unknownCommand(parent *cobra.Command, typed string) error {
	var names []string
	for _, c := range parent.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	hint := didYouMean(typed, names, "")
	if hint == "" {
		hint = fmt.Sprintf("see %s --help", parent.CommandPath())
	}
	return usage("invalid_command", hint, "unknown command %q for %q", typed, parent.CommandPath())
}

// group makes a command that only holds others: alone it shows its help, and a
// word that is no command is an error. cobra would show help and succeed.
func group(cmd *cobra.Command) *cobra.Command {
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return unknownCommand(cmd, args[0])
		}
		return nil
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	return cmd
}

// flagError turns pflag's errors into usage errors, with a suggestion.
func flagError(cmd *cobra.Command, err error) error {
	if e, ok := asError(err); ok {
		return e
	}
	hint := fmt.Sprintf("see %s --help", cmd.CommandPath())
	if bad, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		if what := kindOf(bad.GetFlag().Value.Type()); what != "" {
			return usage("invalid_"+bad.GetFlag().Name, hint, "--%s: %q is not %s", bad.GetFlag().Name, bad.GetValue(), what)
		}
	}
	if unknown, ok := asUnknownFlag(err); ok && len(unknown) > 1 {
		var names []string
		visit := func(f *pflag.Flag) {
			if !f.Hidden {
				names = append(names, f.Name)
			}
		}
		cmd.Flags().VisitAll(visit)
		cmd.InheritedFlags().VisitAll(visit)
		if h := didYouMean(unknown, names, "--"); h != "" {
			hint = h
		}
	}
	return usage("invalid_flag", hint, "%s", err)
}

// kindOf says what values a flag of pflag's own takes; the others say it themselves.
func kindOf(kind string) string {
	switch kind {
	case "int", "int32", "int64":
		return "a whole number"
	case "float64":
		return "a number"
	case "bool":
		return "true or false"
	case "duration":
		return "a length of time, such as 15s"
	}
	return ""
}
