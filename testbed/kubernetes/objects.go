package main

import "fmt"

type object = map[string]any

const (
	simulatedLabel   = "testbed/simulated"
	gatewayNamespace = "testbed"
	gatewayName      = "testbed"
	gatewayClass     = "testbed"
)

// simulatedNodes are kept away from what is meant to run: only what tolerates them is placed there.
func simulatedNodes(count int) []any {
	var nodes []any
	resources := object{"cpu": "32", "memory": "256Gi", "pods": "110"}
	for n := range count {
		name := fmt.Sprintf("simulated-%d", n)
		nodes = append(nodes, object{
			"apiVersion": "v1",
			"kind":       "Node",
			"metadata": object{
				"name":   name,
				"labels": object{simulatedLabel: "true", "kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"},
			},
			"spec":   object{"taints": []object{{"key": simulatedLabel, "value": "true", "effect": "NoSchedule"}}},
			"status": object{"allocatable": resources, "capacity": resources},
		})
	}
	return nodes
}

// contourConfig makes Contour serve the one Gateway.
func contourConfig() any {
	return object{"gateway": object{"gatewayRef": object{"namespace": gatewayNamespace, "name": gatewayName}}}
}

// gatewayObjects are a Gateway that takes routes from every namespace.
func gatewayObjects() []any {
	const group = "gateway.networking.k8s.io/v1"
	return []any{
		object{"apiVersion": "v1", "kind": "Namespace", "metadata": object{"name": gatewayNamespace}},
		object{
			"apiVersion": group,
			"kind":       "GatewayClass",
			"metadata":   object{"name": gatewayClass},
			"spec":       object{"controllerName": "projectcontour.io/gateway-controller"},
		},
		object{
			"apiVersion": group,
			"kind":       "Gateway",
			"metadata":   object{"name": gatewayName, "namespace": gatewayNamespace},
			"spec": object{
				"gatewayClassName": gatewayClass,
				"listeners": []object{{
					"name":          "http",
					"protocol":      "HTTP",
					"port":          80,
					"allowedRoutes": object{"namespaces": object{"from": "All"}},
				}},
			},
		},
	}
}
