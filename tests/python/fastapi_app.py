"""A web server by FastAPI and uvicorn: models, dependencies, functions that are async and those that are not."""

import asyncio
import contextlib

import uvicorn
from fastapi import Depends, FastAPI, HTTPException
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field


@contextlib.asynccontextmanager
async def lifespan(app):
    app.state.began = True
    yield
    print("ended", flush=True)


class Item(BaseModel):
    name: str
    price: float = Field(gt=0)
    tags: list[str] = []


app = FastAPI(lifespan=lifespan)
items = {}


def store():
    yield items


@app.get("/")
async def index():
    await asyncio.sleep(0.01)
    return {"began": app.state.began}


# What is not async runs as in a thread of its own: it may have an event loop.
@app.put("/items/{number}")
def put(number: int, item: Item, store=Depends(store)):
    store[number] = item
    return {"number": number, "slept": asyncio.run(asyncio.sleep(0, "yes"))}


@app.get("/items/{number}")
def get(number: int, store=Depends(store)) -> Item:
    if number not in store:
        raise HTTPException(404)
    return store[number]


@app.get("/stream")
async def stream():
    async def lines():
        for number in range(3):
            await asyncio.sleep(0.01)
            yield f"line {number}\n"

    return StreamingResponse(lines())


if __name__ == "__main__":
    uvicorn.run(app, host="0.0.0.0", port=8080)
