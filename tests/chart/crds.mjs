// Validates custom resources (a JSON array on standard input) against the models of their operators.
//
// The models check types and values but let unknown fields pass, which a real API server does not. What a validator
// never reads is a field that it does not know, so the objects go through a proxy that remembers what was read.

import { readFileSync } from "node:fs";
import { HTTPRoute } from "@kubernetes-models/gateway-api/gateway.networking.k8s.io/v1/HTTPRoute";
import { PrometheusRule } from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/PrometheusRule";
import { ServiceMonitor } from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/ServiceMonitor";

const KINDS = { HTTPRoute, PrometheusRule, ServiceMonitor };

/** `value`, and in `unread` the paths of all its fields until somebody reads them. */
function watched(value, path, unread) {
  if (typeof value !== "object" || value === null) return value;
  const inside = Array.isArray(value) ? [] : {};
  for (const [key, field] of Object.entries(value)) {
    inside[key] = watched(field, `${path}/${key}`, unread);
    if (!Array.isArray(value)) unread.add(`${path}/${key}`);
  }
  return new Proxy(inside, {
    get(target, key, receiver) {
      if (typeof key === "string") unread.delete(`${path}/${key}`);
      return Reflect.get(target, key, receiver);
    },
  });
}

/** What is wrong with one object. */
function problems(object) {
  const kind = KINDS[object.kind];
  if (kind === undefined) return [`no model of ${object.apiVersion} ${object.kind}`];
  const name = `${object.kind} ${object.metadata?.name}`;
  const model = new kind({ metadata: object.metadata, spec: object.spec });
  if (model.apiVersion !== object.apiVersion) return [`${name}: ${object.apiVersion} is not ${model.apiVersion}`];
  const unread = new Set();
  for (const part of ["metadata", "spec"]) model[part] = watched(object[part], `/${part}`, unread);
  try {
    model.validate();
  } catch (error) {
    return [`${name}: ${error.message}`];
  }
  return [...unread].map((path) => `${name}: unknown field ${path}`);
}

const found = JSON.parse(readFileSync(0, "utf8")).flatMap(problems);
for (const line of found) console.log(line);
process.exit(found.length === 0 ? 0 : 1);
