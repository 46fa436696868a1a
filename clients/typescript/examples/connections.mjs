// One connection of each for the whole process. REDIS_URL and TEMPORAL_ADDRESS say where the servers are.

import { Client, Connection } from "@temporalio/client";
import { Redis } from "ioredis";

export const redis = new Redis(process.env.REDIS_URL ?? "redis://localhost:6379");
export const connection = await Connection.connect({ address: process.env.TEMPORAL_ADDRESS ?? "localhost:7233" });
export const temporal = new Client({ connection });
