// Command crictl stands in for the crictl of cri-tools, which is in no
// published Go module that can be verified. It speaks the real CRI to the real
// container runtime and knows the calls that Certbook and the lab make, with
// crictl's flags and JSON:
//
//	crictl [--runtime-endpoint URL] ps [-a] [-q] [-o json] [--name RE]
//	crictl [--runtime-endpoint URL] inspect [-o json] ID
//	crictl [--runtime-endpoint URL] stop [-t SECONDS] ID...
//	crictl [--runtime-endpoint URL] pods [-q]
//	crictl [--runtime-endpoint URL] rmp [-f] ID...
//	crictl [--runtime-endpoint URL] logs ID
//	crictl [--runtime-endpoint URL] exec ID PROGRAM ARG...
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"text/tabwriter"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "crictl:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	global := flag.NewFlagSet("crictl", flag.ContinueOnError)
	endpoint := global.String("runtime-endpoint", "unix:///run/containerd/containerd.sock", "the runtime's socket")
	global.StringVar(endpoint, "r", *endpoint, "the runtime's socket")
	timeout := global.Duration("timeout", 2*time.Second, "of one call")
	if err := global.Parse(args); err != nil {
		return err
	}
	commands := map[string]func(context.Context, cri.RuntimeServiceClient, []string) error{
		"ps": ps, "inspect": inspect, "stop": stop, "pods": pods, "rmp": rmp, "logs": logs, "exec": execute,
	}
	command, ok := commands[global.Arg(0)]
	if !ok {
		return fmt.Errorf("this stand-in for crictl has no command %q", global.Arg(0))
	}
	conn, err := grpc.NewClient(*endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	if !slices.Contains([]string{"stop", "rmp", "exec"}, global.Arg(0)) { // these take as long as they take
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, max(*timeout, 10*time.Second))
		defer cancel()
	}
	return command(ctx, cri.NewRuntimeServiceClient(conn), global.Args()[1:])
}

func ps(ctx context.Context, c cri.RuntimeServiceClient, args []string) error {
	f := flag.NewFlagSet("ps", flag.ContinueOnError)
	all := f.Bool("a", false, "also those that do not run")
	quiet := f.Bool("q", false, "IDs only")
	output := f.String("o", "table", "json or table")
	name := f.String("name", "", "regular expression")
	if err := f.Parse(args); err != nil {
		return err
	}
	filter := &cri.ContainerFilter{}
	if !*all {
		filter.State = &cri.ContainerStateValue{State: cri.ContainerState_CONTAINER_RUNNING}
	}
	list, err := c.ListContainers(ctx, &cri.ListContainersRequest{Filter: filter})
	if err != nil {
		return err
	}
	if *name != "" {
		re, err := regexp.Compile(*name)
		if err != nil {
			return err
		}
		kept := list.Containers[:0]
		for _, one := range list.Containers {
			if re.MatchString(one.Metadata.Name) {
				kept = append(kept, one)
			}
		}
		list.Containers = kept
	}
	if *output == "json" {
		return printJSON(list)
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
	if !*quiet {
		fmt.Fprintln(w, "CONTAINER\tCREATED\tSTATE\tNAME\tATTEMPT\tPOD ID")
	}
	for _, one := range list.Containers {
		if *quiet {
			fmt.Fprintln(w, one.Id)
			continue
		}
		created := time.Since(time.Unix(0, one.CreatedAt)).Round(time.Second)
		fmt.Fprintf(w, "%.13s\t%s ago\t%s\t%s\t%d\t%.13s\n", one.Id, created, one.State.String()[len("CONTAINER_"):], one.Metadata.Name, one.Metadata.Attempt, one.PodSandboxId)
	}
	return w.Flush()
}

func inspect(ctx context.Context, c cri.RuntimeServiceClient, args []string) error {
	f := flag.NewFlagSet("inspect", flag.ContinueOnError)
	f.String("o", "json", "json")
	if err := f.Parse(args); err != nil {
		return err
	}
	status, err := c.ContainerStatus(ctx, &cri.ContainerStatusRequest{ContainerId: f.Arg(0), Verbose: true})
	if err != nil {
		return err
	}
	body, err := protojson.MarshalOptions{EmitUnpopulated: true}.Marshal(status.Status)
	if err != nil {
		return err
	}
	info := json.RawMessage("{}")
	if text, ok := status.Info["info"]; ok {
		info = json.RawMessage(text)
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]json.RawMessage{"status": body, "info": info})
}

func stop(ctx context.Context, c cri.RuntimeServiceClient, args []string) error {
	f := flag.NewFlagSet("stop", flag.ContinueOnError)
	grace := f.Int64("t", 0, "seconds until it is killed")
	if err := f.Parse(args); err != nil {
		return err
	}
	return each(f.Args(), func(id string) error {
		_, err := c.StopContainer(ctx, &cri.StopContainerRequest{ContainerId: id, Timeout: *grace})
		return err
	})
}

func pods(ctx context.Context, c cri.RuntimeServiceClient, args []string) error {
	f := flag.NewFlagSet("pods", flag.ContinueOnError)
	quiet := f.Bool("q", false, "IDs only")
	if err := f.Parse(args); err != nil {
		return err
	}
	list, err := c.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{})
	if err != nil {
		return err
	}
	if !*quiet {
		return printJSON(list)
	}
	for _, one := range list.Items {
		fmt.Println(one.Id)
	}
	return nil
}

func rmp(ctx context.Context, c cri.RuntimeServiceClient, args []string) error {
	f := flag.NewFlagSet("rmp", flag.ContinueOnError)
	force := f.Bool("f", false, "stop it first")
	if err := f.Parse(args); err != nil {
		return err
	}
	return each(f.Args(), func(id string) error {
		if *force {
			if _, err := c.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: id}); err != nil {
				return err
			}
		}
		_, err := c.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: id})
		return err
	})
}

func logs(ctx context.Context, c cri.RuntimeServiceClient, args []string) error {
	if len(args) != 1 {
		return errors.New("logs: want one ID")
	}
	status, err := c.ContainerStatus(ctx, &cri.ContainerStatusRequest{ContainerId: args[0]})
	if err != nil {
		return err
	}
	text, err := os.ReadFile(status.Status.LogPath)
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(text)
	return err
}

// execute runs a program in a container. As with the real one another status than
// 0 is 1.
func execute(ctx context.Context, c cri.RuntimeServiceClient, args []string) error {
	if len(args) < 2 {
		return errors.New("exec: want an ID and a program")
	}
	out, err := c.ExecSync(ctx, &cri.ExecSyncRequest{ContainerId: args[0], Cmd: args[1:]})
	if err != nil {
		return err
	}
	_, _ = os.Stdout.Write(out.Stdout) // the reader may have gone
	_, _ = os.Stderr.Write(out.Stderr)
	if out.ExitCode != 0 {
		return fmt.Errorf("command terminated with exit code %d", out.ExitCode)
	}
	return nil
}

// each calls do for every ID, prints those that went well and returns the
// errors of the others.
func each(ids []string, do func(string) error) error {
	var errs []error
	for _, id := range ids {
		if err := do(id); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", id, err))
			continue
		}
		fmt.Println(id)
	}
	return errors.Join(errs...)
}

func printJSON(m proto.Message) error {
	text, err := protojson.MarshalOptions{EmitUnpopulated: true, Multiline: true}.Marshal(m)
	if err != nil {
		return err
	}
	_, err = fmt.Printf("%s\n", text)
	return err
}
