mod bridged;
mod outside;
mod private;
