package cli

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
)

// devVerb is one of the commands about the nodes of a running dev.
type devVerb struct {
	verb, short, long, done string
}

func devVerbs() []devVerb {
	return []devVerb{
		{"stop", "Stop nodes of a running dev, in order", "stop ends nodes as TERM would: calls get a moment, and another node leads.", "stopped"},
		{"start", "Start nodes of a running dev that are down", "start starts nodes and returns when they serve, or at once while too few run.", "started"},
		{"restart", "Stop nodes of a running dev, and start them again", "restart stops and starts one node after the other, so that the cluster goes on serving.", "restarted"},
		{"kill", "Kill nodes of a running dev, as a crash would", "kill ends nodes with SIGKILL: nothing is stopped in order.", "killed"},
	}
}

// devNodeCommands are the commands about single nodes.
func (a *app) devNodeCommands() []*cobra.Command {
	var all []*cobra.Command
	for _, v := range devVerbs() {
		var dataDir string
		cmd := &cobra.Command{
			Use:   v.verb + " NODE...",
			Short: v.short,
			Long: v.long + `
NODE is its number, from 1, or its name. A node that is down stays down, with its data,
until it is started.`,
			Example: fmt.Sprintf("  conclave dev %s 2\n  conclave dev %s 1 3", v.verb, v.verb),
			Args: func(cmd *cobra.Command, args []string) error {
				if len(args) == 0 {
					return usage("invalid_arguments", "usage: "+cmd.UseLine(), "%s: NODE is missing", cmd.CommandPath())
				}
				return nil
			},
			RunE: func(cmd *cobra.Command, args []string) error {
				dev, err := a.runningNodes(dataDir)
				if err != nil {
					return err
				}
				if _, err := askDev(cmd.Context(), dev.Control, http.MethodPost, "/"+v.verb+"?"+url.Values{"node": args}.Encode()); err != nil {
					return err
				}
				a.note(v.done + " " + strings.Join(args, ", "))
				return nil
			},
		}
		cmd.Flags().StringVar(&dataDir, "data-dir", "", "the data directory of the dev, if several run")
		all = append(all, cmd)
	}
	return append(all, a.devListCommand())
}

func (a *app) devListCommand() *cobra.Command {
	var dataDir string
	cmd := &cobra.Command{
		Use:     "ls",
		Short:   "List the nodes of a running dev",
		Example: "  conclave dev ls\n  conclave dev ls -o json | jq -r '.[] | select(.state == \"down\").name'",
		Args:    exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			dev, err := a.runningNodes(dataDir)
			if err != nil {
				return err
			}
			all, err := a.listNodes(cmd.Context(), dev)
			if err != nil {
				return err
			}
			var rows [][]string
			for _, n := range all {
				pid := "-"
				if n.PID != 0 {
					pid = fmt.Sprint(n.PID)
				}
				rows = append(rows, []string{n.Name, n.State, pid, n.API, n.Etcd, n.Peer})
			}
			return a.printList(all, []string{"NAME", "STATE", "PID", "API", "ETCD", "PEER"}, rows)
		},
	}
	cmd.Flags().StringVar(&dataDir, "data-dir", "", "the data directory of the dev, if several run")
	return cmd
}

func (a *app) listNodes(ctx context.Context, dev devState) ([]nodeView, error) {
	return askDev(ctx, dev.Control, http.MethodGet, "/nodes")
}

// runningNodes finds the running dev of several nodes.
func (a *app) runningNodes(dataDir string) (devState, error) {
	if dataDir != "" {
		var err error
		if dataDir, err = filepath.Abs(dataDir); err != nil {
			return devState{}, err
		}
	}
	var found []devState
	single := false
	for _, dev := range a.runningDevs() {
		switch {
		case dataDir != "" && dev.DataDir != dataDir:
		case dev.Control == "":
			single = true
		default:
			found = append(found, dev)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		var dirs []string
		for _, dev := range found {
			dirs = append(dirs, "--data-dir "+dev.DataDir)
		}
		return devState{}, usage("invalid_data-dir", "choose one: "+strings.Join(dirs, ", or "), "%d conclave dev of several nodes are running", len(found))
	case single:
		return devState{}, &Error{Exit: ExitNotFound, Code: "not_found", Reason: "not_found", Message: "the conclave dev that runs has one node, in its own process",
			Hint: "end it with Ctrl-C, or start one with: conclave dev --nodes 3"}
	}
	return devState{}, &Error{Exit: ExitUnavailable, Code: "unavailable", Reason: "no_host", Message: "no conclave dev of yours is running",
		Hint: "start one with: conclave dev --nodes 3"}
}

// colourful reports whether to use colours on a stream.
func (a *app) colourful(w io.Writer) bool {
	return isTerminal(w) && !a.flags.noColor && a.env["NO_COLOR"] == "" && a.env["TERM"] != "dumb"
}
