package kube

import (
	"cmp"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Labels that kubelet gives to every container.
const (
	labelContainer = "io.kubernetes.container.name"
	labelPod       = "io.kubernetes.pod.name"
	labelNamespace = "io.kubernetes.pod.namespace"
	labelUID       = "io.kubernetes.pod.uid"
)

// systemNamespace is where the control plane's pods are.
const systemNamespace = "kube-system"

// ContainerState is what a container does.
type ContainerState string

// The states of a container.
const (
	Created ContainerState = "created"
	Running ContainerState = "running"
	Exited  ContainerState = "exited"
	Unknown ContainerState = "unknown"
)

// Container is one container of a pod, as any of the runtimes tells it.
type Container struct {
	ID        string
	Name      string // io.kubernetes.container.name
	PodName   string
	Namespace string
	PodUID    string
	State     ContainerState
	CreatedAt time.Time
	StartedAt time.Time // zero where the listing does not tell
	Pid       int       // of its first process on the host; 0 where the listing does not tell
	Attempt   int       // 0 for the first container of the pod; -1 where the listing does not tell
}

// Static says whether the container belongs to a static pod: kubelet names
// such a pod by a hash of its manifest, the API server others by a UUID.
func (c Container) Static() bool {
	return c.PodUID == "" || !strings.Contains(c.PodUID, "-")
}

// Select returns the containers of one component, the youngest first: exactly
// that container name, in kube-system, of a static pod. Names that only look
// alike and other people's containers are not among them.
func Select(containers []Container, component string) []Container {
	var out []Container
	for _, c := range containers {
		if c.Name == component && c.Namespace == systemNamespace && c.Static() {
			out = append(out, c)
		}
	}
	slices.SortStableFunc(out, func(a, b Container) int {
		return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), cmp.Compare(b.Attempt, a.Attempt))
	})
	return out
}

// maxListed is the number of containers above which a listing is refused.
const maxListed = 10000

// maxListing is the size in bytes above which a listing is refused.
const maxListing = 16 << 20

// decode reads JSON of bounded size.
func decode(what string, data []byte, into any) error {
	if len(data) > maxListing {
		return fmt.Errorf("%s: too large: %d bytes, at most %d are read", what, len(data), maxListing)
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("%s: not the expected JSON: %v", what, err)
	}
	return nil
}

var identifierForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$`)

// identifier refuses what cannot name a container in a command: the tools take
// a leading dash for an option.
func identifier(what, id string) error {
	if !identifierForm.MatchString(id) {
		return fmt.Errorf("%s: %q is not the identifier of a container", what, clip(id))
	}
	return nil
}

func labelled(labels map[string]string) Container {
	return Container{Name: labels[labelContainer], PodName: labels[labelPod], Namespace: labels[labelNamespace], PodUID: labels[labelUID], Attempt: -1}
}

// seconds is a grace period as the tools take it: whole, never negative.
func seconds(grace time.Duration) string {
	return strconv.Itoa(int(max(grace, 0).Round(time.Second) / time.Second))
}

// timestamp reads RFC 3339; what is not a time is zero.
func timestamp(s string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil || t.Year() < 1971 {
		return time.Time{}
	}
	return t.UTC()
}

// CrictlPSArgv returns the command that lists the running containers.
func CrictlPSArgv(endpoint string) []string {
	return []string{"crictl", "--runtime-endpoint", endpoint, "ps", "-o", "json"}
}

// CrictlExecArgv returns the command that runs a program in a container.
func CrictlExecArgv(endpoint, id string, argv ...string) []string {
	return append([]string{"crictl", "--runtime-endpoint", endpoint, "exec", id}, argv...)
}

// CrictlStopArgv returns the command that stops a container. Without a grace
// period crictl kills at once.
func CrictlStopArgv(endpoint, id string, grace time.Duration) []string {
	return []string{"crictl", "--runtime-endpoint", endpoint, "stop", "-t", seconds(grace), id}
}

func crictlState(s string) ContainerState {
	switch s {
	case "CONTAINER_RUNNING":
		return Running
	case "CONTAINER_EXITED":
		return Exited
	case "CONTAINER_CREATED":
		return Created
	}
	return Unknown
}

// ParseCrictlPS reads the output of CrictlPSArgv.
func ParseCrictlPS(data []byte) ([]Container, error) {
	var list struct {
		Containers []struct {
			ID       string `json:"id"`
			Metadata struct {
				Attempt int `json:"attempt"`
			} `json:"metadata"`
			State     string            `json:"state"`
			CreatedAt string            `json:"createdAt"` // nanoseconds
			Labels    map[string]string `json:"labels"`
		} `json:"containers"`
	}
	if err := decode("crictl ps", data, &list); err != nil {
		return nil, err
	}
	if len(list.Containers) > maxListed {
		return nil, fmt.Errorf("crictl ps: more than %d containers", maxListed)
	}
	var out []Container
	for _, c := range list.Containers {
		if err := identifier("crictl ps", c.ID); err != nil {
			return nil, err
		}
		one := labelled(c.Labels)
		one.ID, one.State, one.Attempt = c.ID, crictlState(c.State), c.Metadata.Attempt
		if ns, err := strconv.ParseInt(c.CreatedAt, 10, 64); err == nil && ns > 0 {
			one.CreatedAt = time.Unix(0, ns).UTC()
		}
		out = append(out, one)
	}
	return out, nil
}
